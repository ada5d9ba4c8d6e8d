// Package ui holds the chat page: static files that the server serves as they
// are. There is no build step, and nothing is loaded from another host.
package ui

import "embed"

// Files holds index.html (served at /), and the modules, style sheet and
// vendored libraries it uses (served below /ui/). It is read-only and safe for
// concurrent use.
//
//go:embed index.html icon.svg app.js attention connection store views lib style vendor
var Files embed.FS
