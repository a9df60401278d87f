// Commands in a container and forwarded ports, as programs made with client-go ask for them: by SPDY and by WebSocket.
package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"net/http"
	"net/url"
	"os"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/httpstream"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/transport/spdy"
	"k8s.io/client-go/util/exec"
)

const megabytes = 32

func main() {
	if len(os.Args) != 5 {
		fmt.Fprintln(os.Stderr, "usage: streams spdy|websocket KUBECONFIG NAMESPACE POD")
		os.Exit(2)
	}
	if err := run(os.Args[1] == "websocket", os.Args[2], os.Args[3], os.Args[4]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(websocket bool, kubeconfig, namespace, pod string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	one := target{config, kubernetes.NewForConfigOrDie(config), namespace, pod, websocket}
	for _, check := range []func(context.Context) error{one.output, one.code, one.bulk, one.ports} {
		if err := check(ctx); err != nil {
			return err
		}
	}
	fmt.Println("streamed")
	return nil
}

// target is a pod and how it is reached.
type target struct {
	config         *rest.Config
	client         kubernetes.Interface
	namespace, pod string
	websocket      bool
}

func (t target) location(subresource string) *rest.Request {
	return t.client.CoreV1().RESTClient().Post().Resource("pods").Namespace(t.namespace).Name(t.pod).SubResource(subresource)
}

func (t target) execute(ctx context.Context, streams remotecommand.StreamOptions, command ...string) error {
	request := t.location("exec").VersionedParams(&corev1.PodExecOptions{
		Container: "main",
		Command:   command,
		Stdin:     streams.Stdin != nil,
		Stdout:    true,
		Stderr:    true,
	}, scheme.ParameterCodec)
	var executor remotecommand.Executor
	var err error
	if t.websocket {
		executor, err = remotecommand.NewWebSocketExecutor(t.config, "GET", request.URL().String())
	} else {
		executor, err = remotecommand.NewSPDYExecutor(t.config, "POST", request.URL())
	}
	if err != nil {
		return err
	}
	return executor.StreamWithContext(ctx, streams)
}

func (t target) output(ctx context.Context) error {
	var out, problems bytes.Buffer
	err := t.execute(ctx, remotecommand.StreamOptions{Stdout: &out, Stderr: &problems}, "sh", "-c", "echo out; echo err >&2")
	if err != nil || out.String() != "out\n" || problems.String() != "err\n" {
		return fmt.Errorf("output: %q %q %v", out.String(), problems.String(), err)
	}
	return nil
}

func (t target) code(ctx context.Context) error {
	err := t.execute(ctx, remotecommand.StreamOptions{Stdout: io.Discard, Stderr: io.Discard}, "sh", "-c", "exit 7")
	var ended exec.CodeExitError
	if !errors.As(err, &ended) || ended.Code != 7 {
		return fmt.Errorf("exit code: %v", err)
	}
	return nil
}

func (t target) bulk(ctx context.Context) error {
	sent, received := sha256.New(), sha256.New()
	source := io.TeeReader(io.LimitReader(rand.New(rand.NewSource(1)), megabytes<<20), sent)
	if err := t.execute(ctx, remotecommand.StreamOptions{Stdin: source, Stdout: received, Stderr: io.Discard}, "cat"); err != nil {
		return fmt.Errorf("bulk: %w", err)
	}
	if !bytes.Equal(sent.Sum(nil), received.Sum(nil)) {
		return errors.New("bulk: what came back is something else")
	}
	return nil
}

func (t target) ports(ctx context.Context) error {
	dialer, err := t.dialer(t.location("portforward").URL())
	if err != nil {
		return err
	}
	stop, ready := make(chan struct{}), make(chan struct{})
	forwarder, err := portforward.NewOnAddresses(dialer, []string{"127.0.0.1"}, []string{":18080"}, stop, ready, io.Discard, io.Discard)
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- forwarder.ForwardPorts() }()
	select {
	case err := <-ended:
		return fmt.Errorf("port-forward: %w", err)
	case <-ready:
	}
	local, err := forwarder.GetPorts()
	if err != nil {
		return err
	}
	for range 10 {
		answer, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/", local[0].Local))
		if err != nil {
			return fmt.Errorf("forwarded: %w", err)
		}
		body, err := io.ReadAll(answer.Body)
		answer.Body.Close()
		if err != nil || string(body) != "served\n" {
			return fmt.Errorf("forwarded: %q %v", body, err)
		}
	}
	close(stop)
	return <-ended
}

func (t target) dialer(location *url.URL) (httpstream.Dialer, error) {
	if t.websocket {
		return portforward.NewSPDYOverWebsocketDialer(location, t.config)
	}
	transport, upgrader, err := spdy.RoundTripperFor(t.config)
	if err != nil {
		return nil, err
	}
	return spdy.NewDialer(upgrader, &http.Client{Transport: transport}, "POST", location), nil
}
