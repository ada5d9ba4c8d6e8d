package router

import "time"

// FunctionConfig is how one function is run, in each process: the table
// [functions.<name>] of config.toml. Zero fields have their defaults.
type FunctionConfig struct {
	// Concurrency is how many messages of one type are handled at the same time.
	// Default 16.
	Concurrency int `toml:"concurrency" min:"1" max:"1024"`
	// MaxAttempts is how often a message is tried before it goes to the dead
	// letters. Default 5.
	MaxAttempts int `toml:"max_attempts" min:"1" max:"1000"`
	// Backoff is the wait after the first failed attempt; it doubles with each up to
	// 30 s. Default 100 ms.
	Backoff time.Duration `toml:"backoff" min:"1ms" max:"30s"`
	// Timeout ends the context of one attempt. RabbitMQ takes back what is not done
	// in half an hour. Default 30 s.
	Timeout time.Duration `toml:"timeout" min:"10ms" max:"15m"`
}

// DefaultFunction returns the settings of a function that has none of its own.
func DefaultFunction() FunctionConfig {
	return FunctionConfig{Concurrency: 16, MaxAttempts: 5, Backoff: 100 * time.Millisecond, Timeout: 30 * time.Second}
}

// backoffMax bounds the wait between two attempts.
const backoffMax = 30 * time.Second

// wait returns how long to wait after the given failed attempt, 1 for the first.
func (f FunctionConfig) wait(attempt int) time.Duration {
	return min(f.Backoff<<min(attempt-1, 15), backoffMax)
}

// orDefault fills in what is not set.
func (f FunctionConfig) orDefault() FunctionConfig {
	def := DefaultFunction()
	if f.Concurrency == 0 {
		f.Concurrency = def.Concurrency
	}
	if f.MaxAttempts == 0 {
		f.MaxAttempts = def.MaxAttempts
	}
	if f.Backoff == 0 {
		f.Backoff = def.Backoff
	}
	if f.Timeout == 0 {
		f.Timeout = def.Timeout
	}
	return f
}
