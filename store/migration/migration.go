// Package migration holds the schema of the store: one file for each version.
package migration

import "embed"

// Files are NNNNN_name.sql, to be applied in this order.
//
//go:embed *.sql
var Files embed.FS
