package router_test

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"google.golang.org/protobuf/types/known/wrapperspb"

	"burrow/gen/chat"
	"burrow/gen/tasks"
	"burrow/router"
)

// A function is written for one type of message. The type is the topic, so neither
// the function nor the publisher names one.
func ExampleHandle() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	rt, err := router.New(ctx, inProcess())
	if err != nil {
		fmt.Println(err)
		return
	}

	// The package of the message has no element "tasks": it is an event, and every
	// node that has the function runs it.
	handled := make(chan struct{})
	greet := func(_ context.Context, name *wrapperspb.StringValue) error {
		fmt.Println("hello,", name.GetValue())
		close(handled)
		return nil
	}
	if err := router.Handle(rt, "greet", greet); err != nil {
		fmt.Println(err)
		return
	}
	stopped := make(chan error, 1)
	go func() { stopped <- rt.Run(ctx) }()
	<-rt.Running() // an event is for those who are there

	if err := rt.Publish(ctx, wrapperspb.String("ada")); err != nil {
		fmt.Println(err)
		return
	}
	<-handled
	fmt.Println("shutdown:", rt.Shutdown(ctx))
	fmt.Println("run:", <-stopped)
	// Output:
	// hello, ada
	// shutdown: <nil>
	// run: <nil>
}

// A message of a package with an element "tasks" is a task: it waits for its
// function, one process runs it, and again if that fails.
func ExampleHandle_task() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	rt, err := router.New(ctx, inProcess())
	if err != nil {
		fmt.Println(err)
		return
	}
	task := &tasks.ArchiveMessage{Message: &chat.ChatMessage{Sender: "ada", Content: "hello"}}
	if err := rt.Publish(ctx, task); err != nil { // nobody is there yet
		fmt.Println(err)
		return
	}

	attempts := 0
	stored := make(chan struct{})
	keep := func(_ context.Context, m *tasks.ArchiveMessage) error {
		if attempts++; attempts == 1 {
			return fmt.Errorf("the disk is full")
		}
		fmt.Printf("attempt %d keeps %q\n", attempts, m.GetMessage().GetContent())
		close(stored)
		return nil
	}
	if err := router.Handle(rt, "keep", keep); err != nil {
		fmt.Println(err)
		return
	}
	stopped := make(chan error, 1)
	go func() { stopped <- rt.Run(ctx) }()
	<-stored
	fmt.Println("shutdown:", rt.Shutdown(ctx))
	fmt.Println("run:", <-stopped)
	// Output:
	// attempt 2 keeps "hello"
	// shutdown: <nil>
	// run: <nil>
}

// inProcess is the broker that needs nothing and forgets everything.
func inProcess() router.Config {
	cfg := router.DefaultConfig()
	cfg.Driver = "gochannel"
	cfg.Log = slog.New(slog.DiscardHandler)
	return cfg
}
