// Loads etcd over its own client and prints one line of JSON.
//
//	etcd_load -endpoints 127.0.0.1:2379,... -op put|range|fill [-clients 50] [-seconds 3]
//	          [-keys 100000] [-value-bytes 100] [-rate 0]
//
// A closed loop has one goroutine on each connection. With -rate, requests are due at
// that rate whatever etcd does, and are measured from the time they were due. All
// connections go to the leader, which is the fastest way to use etcd. Ranges are
// linearizable, as they are by default. fill writes every key once, unmeasured.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand"
	"os"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/clientv3"
)

const (
	putsOfTransaction = 100
	workersOfOpenLoop = 20 // on each connection
	dialTimeout       = 5 * time.Second
	requestTimeout    = 10 * time.Second
)

var (
	endpoints  = flag.String("endpoints", "127.0.0.1:2379", "addresses with commas")
	operation  = flag.String("op", "put", "put, range or fill")
	clients    = flag.Int("clients", 50, "connections")
	seconds    = flag.Float64("seconds", 3, "length of the run")
	keys       = flag.Int("keys", 100000, "different keys")
	valueBytes = flag.Int("value-bytes", 100, "size of a value")
	rate       = flag.Float64("rate", 0, "requests a second of an open loop")
)

type summary struct {
	Succeeded int                `json:"succeeded"`
	Failed    int                `json:"failed"`
	Seconds   float64            `json:"seconds"`
	Rate      float64            `json:"rate"`
	Latency   map[string]float64 `json:"latency_ms"`
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func key(number int) string { return fmt.Sprintf("bench:%012d", number) }

func dial(addresses []string) *clientv3.Client {
	client, err := clientv3.New(clientv3.Config{Endpoints: addresses, DialTimeout: dialTimeout})
	if err != nil {
		fail(err)
	}
	return client
}

func leader(addresses []string) string {
	client := dial(addresses)
	defer client.Close()
	for _, address := range addresses {
		within, cancel := context.WithTimeout(context.Background(), dialTimeout)
		status, err := client.Status(within, address)
		cancel()
		if err == nil && status.Leader == status.Header.MemberId {
			return address
		}
	}
	fail(fmt.Errorf("no leader among %v", addresses))
	return ""
}

func fill(client *clientv3.Client, value string) {
	for first := 0; first < *keys; first += putsOfTransaction {
		puts := []clientv3.Op{}
		for number := first; number < first+putsOfTransaction && number < *keys; number++ {
			puts = append(puts, clientv3.OpPut(key(number), value))
		}
		if _, err := client.Txn(context.Background()).Then(puts...).Commit(); err != nil {
			fail(err)
		}
	}
}

func ask(client *clientv3.Client, chance *rand.Rand, value string) error {
	within, cancel := context.WithTimeout(context.Background(), requestTimeout)
	defer cancel()
	name := key(chance.Intn(*keys))
	var err error
	if *operation == "put" {
		_, err = client.Put(within, name, value)
	} else {
		_, err = client.Get(within, name)
	}
	return err
}

func main() {
	flag.Parse()
	value := strings.Repeat("x", *valueBytes)
	address := leader(strings.Split(*endpoints, ","))
	if *operation == "fill" {
		fill(dial([]string{address}), value)
		fmt.Println("{}")
		return
	}
	connections := make([]*clientv3.Client, *clients)
	for number := range connections {
		connections[number] = dial([]string{address})
		ask(connections[number], rand.New(rand.NewSource(1)), value)
	}
	begin := time.Now()
	end := begin.Add(time.Duration(*seconds * float64(time.Second)))
	var failed int64
	var results sync.Mutex
	latencies := []float64{}
	workers := sync.WaitGroup{}
	each := 1
	var due chan time.Time
	if *rate > 0 {
		each = workersOfOpenLoop
		due = make(chan time.Time, int(*rate**seconds)+1)
		go schedule(begin, due)
	}
	for number, client := range connections {
		for worker := 0; worker < each; worker++ {
			workers.Add(1)
			go func(client *clientv3.Client, seed int64) {
				defer workers.Done()
				chance := rand.New(rand.NewSource(seed))
				mine := make([]float64, 0, 100000)
				for asked := next(due, end); !asked.IsZero(); asked = next(due, end) {
					if ask(client, chance, value) != nil {
						atomic.AddInt64(&failed, 1)
						continue
					}
					mine = append(mine, float64(time.Since(asked).Nanoseconds())/1e6)
				}
				results.Lock()
				latencies = append(latencies, mine...)
				results.Unlock()
			}(client, int64(number*each+worker))
		}
	}
	workers.Wait()
	report(latencies, int(failed), time.Since(begin).Seconds())
}

// schedule hands out the times at which requests are due.
func schedule(begin time.Time, due chan time.Time) {
	count := int(*rate * *seconds)
	for number := 0; number < count; number++ {
		moment := begin.Add(time.Duration(float64(number) / *rate * 1e9))
		if wait := time.Until(moment); wait > 0 {
			time.Sleep(wait)
		}
		due <- moment
	}
	close(due)
}

// next returns when the next request was due, or the zero time at the end.
func next(due chan time.Time, end time.Time) time.Time {
	if due != nil {
		return <-due
	}
	if now := time.Now(); now.Before(end) {
		return now
	}
	return time.Time{}
}

func report(latencies []float64, failed int, took float64) {
	sort.Float64s(latencies)
	at := func(share float64) float64 {
		if len(latencies) == 0 {
			return 0
		}
		return latencies[int(share*float64(len(latencies)-1))]
	}
	said := summary{
		Succeeded: len(latencies), Failed: failed, Seconds: took,
		Rate: float64(len(latencies)) / took,
		Latency: map[string]float64{
			"p50": at(0.5), "p95": at(0.95), "p99": at(0.99), "p99_9": at(0.999), "max": at(1),
		},
	}
	if err := json.NewEncoder(os.Stdout).Encode(said); err != nil {
		fail(err)
	}
}
