// Informers of client-go over every kind that a server lists, typed and dynamic: all must sync, and a change made
// through the typed client must reach the informer.
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
)

func main() {
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(kubeconfig string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	config.QPS, config.Burst = 1000, 1000
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	if err := allKinds(ctx, client, dynamic.NewForConfigOrDie(config)); err != nil {
		return err
	}
	return oneChange(ctx, client)
}

// allKinds syncs a dynamic informer for every resource that can be listed and watched.
func allKinds(ctx context.Context, client kubernetes.Interface, dyn dynamic.Interface) error {
	lists, err := client.Discovery().ServerPreferredResources()
	if err != nil {
		return err
	}
	lists = discovery.FilteredBy(discovery.SupportsAllVerbs{Verbs: []string{"list", "watch"}}, lists)
	factory := dynamicinformer.NewDynamicSharedInformerFactory(dyn, 0)
	wanted := sets.New[schema.GroupVersionResource]()
	for _, list := range lists {
		group, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			return err
		}
		for _, resource := range list.APIResources {
			wanted.Insert(group.WithResource(resource.Name))
			factory.ForResource(group.WithResource(resource.Name))
		}
	}
	factory.Start(ctx.Done())
	synced := factory.WaitForCacheSync(ctx.Done())
	for resource := range wanted {
		if !synced[resource] {
			return fmt.Errorf("%s did not sync", resource)
		}
	}
	fmt.Printf("synced %d kinds\n", wanted.Len())
	return nil
}

// oneChange creates, changes and deletes a ConfigMap and waits for the informer to tell of each.
func oneChange(ctx context.Context, client kubernetes.Interface) error {
	factory := informers.NewSharedInformerFactory(client, 0)
	informer := factory.Core().V1().ConfigMaps().Informer()
	seen := make(chan string, 100)
	tell := func(what string, obj any) {
		if last, ok := obj.(cache.DeletedFinalStateUnknown); ok {
			obj = last.Obj
		}
		if found := obj.(*corev1.ConfigMap); found.Name == "informed" {
			seen <- what
		}
	}
	handler := cache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { tell("added", obj) },
		UpdateFunc: func(_, obj any) { tell("updated", obj) },
		DeleteFunc: func(obj any) { tell("deleted", obj) },
	}
	if _, err := informer.AddEventHandler(handler); err != nil {
		return err
	}
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())
	maps := client.CoreV1().ConfigMaps("default")
	made, err := maps.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "informed"}}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	made.Data = map[string]string{"k": "v"}
	if _, err := maps.Update(ctx, made, metav1.UpdateOptions{}); err != nil {
		return err
	}
	if err := maps.Delete(ctx, "informed", metav1.DeleteOptions{}); err != nil {
		return err
	}
	for _, expected := range []string{"added", "updated", "deleted"} {
		select {
		case got := <-seen:
			if got != expected {
				return fmt.Errorf("informer told of %q, not %q", got, expected)
			}
		case <-ctx.Done():
			return fmt.Errorf("informer never told of %q", expected)
		}
	}
	fmt.Println("one change seen")
	return nil
}
