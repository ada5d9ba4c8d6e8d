package routertest_test

import (
	"crypto/rand"
	"net"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"burrow/router"
	"burrow/router/routertest"
)

const (
	oneProcess = "the nodes are in one process, and what they publish stays in it"
	oneNode    = "one process has the broker for itself, and runs one node; use a NATS server for more"
	payload    = "as a server comes its max_payload is 1 MiB with the headers: set it to 1 MiB and 64 KiB, or the largest messages are refused"
	noLink     = "the broker is in the process: no link to it can fail"
)

// brokers are the columns of the table.
func brokers() []routertest.Broker {
	return []routertest.Broker{
		{
			Name:   "gochannel",
			Config: gochannelConfig,
			Lacks: map[string]string{
				routertest.Durable:   "nothing is written: what waits is gone with the process",
				routertest.Processes: oneProcess,
				routertest.RawTasks:  oneProcess,
				routertest.RawEvents: oneProcess,
				routertest.Outside:   oneProcess,
				routertest.Link:      noLink,
			},
		},
		{
			Name:       "NATS, embedded",
			Config:     embeddedConfig,
			Exclusive:  true,
			PublishRaw: publishRawEmbedded,
			Leftovers:  embeddedLeftovers,
			Lacks: map[string]string{
				routertest.SeveralNodes: oneNode,
				routertest.RawEvents:    "it listens on no port: no other program can publish while it runs",
				routertest.Link:         noLink,
			},
		},
		{
			Name:   "NATS",
			Config: natsConfig,
			Lacks: map[string]string{
				"a message of exactly broker.max_message_bytes (1 MiB) arrives": payload,
			},
			Redelivery: 30 * time.Second,
			PublishRaw: publishRawNATS,
			Leftovers:  natsLeftovers,
			Stall:      stall,
			Cut:        cut,
		},
		{
			Name:       "Redis",
			Config:     redisConfig,
			Redelivery: 30 * time.Second,
			PublishRaw: publishRawRedis,
			Leftovers:  redisLeftovers,
			Stall:      stall,
			Cut:        cut,
		},
		{
			Name:       "RabbitMQ",
			Config:     amqpConfig,
			PublishRaw: publishRawAMQP,
			Leftovers:  amqpLeftovers,
			Stall:      stall,
			Cut:        cut,
		},
	}
}

func TestMain(m *testing.M) { os.Exit(routertest.Main(m, brokers()...)) }

func TestConformance(t *testing.T) { routertest.Run(t, brokers()...) }

func TestTheDocumentHasTheSamePromises(t *testing.T) {
	file, err := os.ReadFile("../../docs/delivery.md")
	if err != nil {
		t.Fatal(err)
	}
	if err := routertest.CheckDocs(file, brokers()...); err != nil {
		t.Errorf("docs/delivery.md: run make conformance-docs\n%v", err)
	}
}

func TestPromisesAreSentencesAndDifferent(t *testing.T) {
	seen := make(map[string]bool)
	for _, p := range routertest.Promises() {
		if seen[p.Name] || strings.ContainsAny(p.Name, "/|\n") || p.Group == "" {
			t.Errorf("%q", p.Name)
		}
		seen[p.Name] = true
	}
	if len(seen) < 40 {
		t.Errorf("%d promises", len(seen))
	}
}

// testURL returns the broker that the environment names, or def. Without a broker
// there the test is skipped, or fails where BURROW_TEST_REQUIRE is set.
func testURL(t testing.TB, env, def string) *url.URL {
	t.Helper()
	address := os.Getenv(env)
	if address == "" {
		address = def
	}
	u, err := url.Parse(address)
	if err != nil {
		t.Fatalf("%s: %v", env, err)
	}
	conn, err := net.DialTimeout("tcp", u.Host, 2*time.Second)
	if err == nil {
		_ = conn.Close()
		return u
	}
	if os.Getenv("BURROW_TEST_REQUIRE") != "" {
		t.Fatalf("no broker at %s: %v; set %s", u.Host, err, env)
	}
	t.Skipf("no broker at %s: set %s to run this", u.Host, env)
	return nil
}

func freshConfig(driver string) router.Config {
	cfg := router.DefaultConfig()
	cfg.Driver = driver
	cfg.TopicPrefix = "test-suite-" + strings.ToLower(rand.Text()[:10])
	cfg.ConnectTimeout = 20 * time.Second
	cfg.PublishTimeout = 20 * time.Second // a loaded machine is slow, not broken
	cfg.NATS.MaxTaskBytes = 64 << 20      // many of them reserve that at the same time
	return cfg
}

func gochannelConfig(testing.TB) router.Config {
	cfg := freshConfig("gochannel")
	cfg.Memory = router.NewMemory()
	return cfg
}
