// The typed, dynamic and metadata clients of client-go, streaming lists and leader election.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// parts are the names of what can be asked for.
var parts = map[string]func(context.Context, *rest.Config, string) error{
	"typed": func(ctx context.Context, config *rest.Config, namespace string) error {
		return typed(ctx, kubernetes.NewForConfigOrDie(config), namespace)
	},
	"dynamic": func(ctx context.Context, config *rest.Config, namespace string) error {
		return custom(ctx, dynamic.NewForConfigOrDie(config), namespace)
	},
	"metadata": func(ctx context.Context, config *rest.Config, namespace string) error {
		own := metadata.NewForConfigOrDie(metadata.ConfigFor(config))
		return alone(ctx, kubernetes.NewForConfigOrDie(config), own, namespace)
	},
	"watchlist": streamed,
	"election":  elections,
}

func main() {
	if len(os.Args) != 4 || parts[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: clients typed|dynamic|metadata|watchlist|election KUBECONFIG NAMESPACE")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(part, kubeconfig, namespace string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	config.QPS, config.Burst = 1000, 1000
	return parts[part](ctx, config, namespace)
}

// expect says what was wrong with an answer; nil when it is as it must be.
func expect(holds bool, what string, err error) error {
	if holds && err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, errors.Join(err, errors.New("not as expected")))
}
