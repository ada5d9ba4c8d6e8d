package client_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"burrow/client"
)

// A bot that answers whoever writes to it in private. It is done at the first answer, so that
// the example ends.
func Example() {
	server, stop := exampleServer() // A real one has an address like http://localhost:8000.
	defer stop()

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	bot, err := client.Dial(ctx, client.Config{URL: server, Name: "bot"})
	if err != nil {
		log.Fatal(err)
	}
	defer bot.Close()

	ada, err := client.Dial(ctx, client.Config{URL: server, Name: "ada"})
	if err != nil {
		log.Fatal(err)
	}
	defer ada.Close()
	if _, err := ada.Send(ctx, "bot", "are you there?"); err != nil {
		log.Fatal(err) // An *client.Error says why it was refused.
	}

	for m := range bot.Messages() {
		if m.Old || m.To != bot.Name() || m.Sender == bot.Name() {
			continue
		}
		fmt.Println(m.Sender, "asks:", m.Content)
		if _, err := bot.Send(ctx, m.Sender, "I am."); err != nil {
			log.Fatal(err)
		}
		break
	}
	for m := range ada.Messages() {
		if m.Sender == "bot" {
			fmt.Println(m.Sender, "says:", m.Content)
			break
		}
	}
	// Output:
	// ada asks: are you there?
	// bot says: I am.
}
