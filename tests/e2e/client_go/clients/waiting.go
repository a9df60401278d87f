package main

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// heard keeps the queries of requests.
type heard struct {
	next    http.RoundTripper
	lock    sync.Mutex
	queries []string
}

func (h *heard) RoundTrip(request *http.Request) (*http.Response, error) {
	h.lock.Lock()
	h.queries = append(h.queries, request.URL.RawQuery)
	h.lock.Unlock()
	return h.next.RoundTrip(request)
}

// streamed holds that informers get what is there as a stream (WatchList), without falling back to a list.
func streamed(ctx context.Context, config *rest.Config, namespace string) error {
	quiet := kubernetes.NewForConfigOrDie(config)
	for number := range 50 {
		made := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("streamed-%d", number)}}
		if _, err := quiet.CoreV1().ConfigMaps(namespace).Create(ctx, made, metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	own, listening := rest.CopyConfig(config), &heard{}
	own.Wrap(func(next http.RoundTripper) http.RoundTripper {
		listening.next = next
		return listening
	})
	factory := informers.NewSharedInformerFactoryWithOptions(
		kubernetes.NewForConfigOrDie(own), 0, informers.WithNamespace(namespace))
	maps := factory.Core().V1().ConfigMaps()
	maps.Informer()
	factory.Start(ctx.Done())
	for _, synced := range factory.WaitForCacheSync(ctx.Done()) {
		if !synced {
			return fmt.Errorf("the informer did not sync")
		}
	}
	count := 0
	for _, found := range maps.Informer().GetStore().ListKeys() {
		if strings.HasPrefix(found, namespace+"/streamed-") {
			count++
		}
	}
	listening.lock.Lock()
	defer listening.lock.Unlock()
	for _, query := range listening.queries {
		if !strings.Contains(query, "watch=true") {
			return fmt.Errorf("a list was asked for: %s", query)
		}
	}
	first := strings.Contains(listening.queries[0], "sendInitialEvents=true")
	return expect(first && count == 50, fmt.Sprintf("%d objects by %v", count, listening.queries), nil)
}

// elections lets one of two candidates lead, ends it, and waits for the other to lead.
func elections(ctx context.Context, config *rest.Config, namespace string) error {
	client := kubernetes.NewForConfigOrDie(config)
	led := make(chan string, 2)
	candidate := func(ctx context.Context, name string) {
		leaderelection.RunOrDie(ctx, leaderelection.LeaderElectionConfig{
			Lock: &resourcelock.LeaseLock{
				LeaseMeta:  metav1.ObjectMeta{Name: "leader", Namespace: namespace},
				Client:     client.CoordinationV1(),
				LockConfig: resourcelock.ResourceLockConfig{Identity: name},
			},
			LeaseDuration: 60 * time.Second, RenewDeadline: 40 * time.Second, RetryPeriod: 200 * time.Millisecond,
			ReleaseOnCancel: true,
			Callbacks: leaderelection.LeaderCallbacks{
				OnStartedLeading: func(context.Context) { led <- name },
				OnStoppedLeading: func() {},
			},
		})
	}
	first, end := context.WithCancel(ctx)
	defer end()
	ended := make(chan struct{})
	go func() {
		candidate(first, "first")
		close(ended)
	}()
	if err := leads(ctx, led, "first"); err != nil {
		return err
	}
	rest, stop := context.WithCancel(ctx)
	defer stop()
	go candidate(rest, "second")
	end()
	<-ended
	if err := leads(ctx, led, "second"); err != nil {
		return err
	}
	lease, err := client.CoordinationV1().Leases(namespace).Get(ctx, "leader", metav1.GetOptions{})
	return expect(err == nil && *lease.Spec.HolderIdentity == "second" && *lease.Spec.LeaseTransitions >= 1, "lease", err)
}

func leads(ctx context.Context, led <-chan string, wanted string) error {
	select {
	case name := <-led:
		return expect(name == wanted, name+" leads", nil)
	case <-ctx.Done():
		return fmt.Errorf("%s never led", wanted)
	}
}
