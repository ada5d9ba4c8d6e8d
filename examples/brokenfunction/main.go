// Command brokenfunction shows what becomes of a message that a function gives up
// on. Two functions handle the same task: print, which fails for want of paper, and
// count, which works. The README goes through it: "When a function fails".
//
// It has the settings of Burrow, from the environment; give it a BURROW_DATA_DIR of
// its own.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"

	"google.golang.org/protobuf/types/known/timestamppb"

	"burrow/config"
	"burrow/dlq"
	"burrow/gen/chat"
	"burrow/gen/tasks"
	"burrow/router"
	"burrow/store"
)

func main() {
	paper := flag.Bool("paper", false, "there is paper: print works")
	text := flag.String("print", "", "print this `text`")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Environ(), *paper, *text, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run works until ctx ends.
func run(ctx context.Context, environ []string, paper bool, text string, out io.Writer) (err error) {
	cfg, err := config.Load("", environ)
	if err != nil {
		return err
	}
	log := slog.New(slog.DiscardHandler) // what there is to see is on out
	cfg.Store.DataDir, cfg.Store.Log = cfg.DataDir, log
	letters, err := store.Open(ctx, cfg.Store)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, letters.Close()) }()

	cfg.Broker.DataDir, cfg.Broker.Log = cfg.DataDir, log
	cfg.Broker.DeadLetter = func(ctx context.Context, l router.DeadLetter) error {
		fmt.Fprintf(out, "%s gave up on a message after %d attempts: %v\n", l.Function, l.Attempts, l.Err)
		return letters.AddDeadLetter(ctx, &tasks.DeadLetter{
			MessageId: l.MessageID, Topic: l.Topic, Function: l.Function, Error: l.Err.Error(), Attempts: uint32(l.Attempts),
			Payload: l.Payload, Metadata: l.Metadata, Replay: l.Replay, FailedAt: timestamppb.New(l.Time),
		})
	}
	rt, err := router.New(ctx, cfg.Broker)
	if err != nil {
		return err
	}
	err = errors.Join(
		router.Handle(rt, "print", func(_ context.Context, m *tasks.ArchiveMessage) error {
			if !paper {
				return errors.New("the printer has no paper")
			}
			fmt.Fprintln(out, "printed:", m.GetMessage().GetContent())
			return nil
		}),
		router.Handle(rt, "count", func(_ context.Context, m *tasks.ArchiveMessage) error {
			fmt.Fprintln(out, "counted:", m.GetMessage().GetContent())
			return nil
		}),
	)
	if err != nil {
		return errors.Join(err, rt.Close())
	}

	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- rt.Run(work) }()
	outbox := dlq.NewOutbox(letters, sender{rt}, rt.Functions(), "brokenfunction", log)
	select {
	case <-rt.Running():
		go func() { _ = outbox.Run(work) }() // always nil; Shutdown waits for it
		if text != "" {
			err = rt.Publish(ctx, &tasks.ArchiveMessage{Message: &chat.ChatMessage{Sender: "ada", Content: text}})
		}
		if err == nil {
			<-ctx.Done()
		}
	case err = <-ended:
		return errors.Join(err, rt.Close())
	case <-ctx.Done():
	}
	stop, cancelStop := context.WithTimeout(work, cfg.Shutdown.Timeout)
	defer cancelStop()
	return errors.Join(err, outbox.Shutdown(stop), rt.Shutdown(stop), <-ended)
}

// sender is the router as dlq.Sender.
type sender struct{ *router.Router }

func (s sender) Replay(ctx context.Context, r dlq.Replay) error {
	err := s.Router.Replay(ctx, router.Replay(r))
	if errors.Is(err, router.ErrInvalid) || errors.Is(err, router.ErrTooLarge) {
		return fmt.Errorf("%w: %w", dlq.ErrRefused, err)
	}
	return err
}
