// Looks a name up at a DNS server, with Go's own resolver, and gets URLs with its own client.
//
//	client DNS-SERVER NAME URL...
package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"
)

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	dialer := net.Dialer{}
	resolver := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return dialer.DialContext(ctx, network, net.JoinHostPort(os.Args[1], "53"))
	}}
	found, err := resolver.LookupHost(ctx, os.Args[2])
	end(err)
	fmt.Println(found[0])
	for _, url := range os.Args[3:] {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		end(err)
		answer, err := http.DefaultClient.Do(request)
		end(err)
		body, err := io.ReadAll(answer.Body)
		end(err)
		fmt.Println(string(body))
	}
}

func end(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
