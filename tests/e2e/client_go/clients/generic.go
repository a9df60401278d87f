package main

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
)

var (
	definitions = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}
	gadgets     = schema.GroupVersionResource{Group: "judges.example.com", Version: "v1", Resource: "gadgets"}
)

func gadget(name string, spec map[string]any) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "judges.example.com/v1", "kind": "Gadget", "metadata": map[string]any{"name": name}, "spec": spec,
	}}
}

// define creates the definition of gadgets and waits until it is served.
func define(ctx context.Context, client dynamic.Interface) error {
	free := map[string]any{"type": "object", "x-kubernetes-preserve-unknown-fields": true}
	spec := map[string]any{"type": "object", "properties": map[string]any{
		"size": map[string]any{"type": "integer", "minimum": int64(1), "default": int64(3)},
	}}
	definition := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
		"metadata": map[string]any{"name": "gadgets.judges.example.com"},
		"spec": map[string]any{
			"group": "judges.example.com", "scope": "Namespaced",
			"names": map[string]any{"plural": "gadgets", "singular": "gadget", "kind": "Gadget", "listKind": "GadgetList"},
			"versions": []any{map[string]any{
				"name": "v1", "served": true, "storage": true,
				"subresources": map[string]any{"status": map[string]any{}},
				"schema": map[string]any{"openAPIV3Schema": map[string]any{
					"type": "object", "properties": map[string]any{"spec": spec, "status": free},
				}},
			}},
		},
	}}
	watcher, err := client.Resource(definitions).Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=gadgets.judges.example.com"})
	if err != nil {
		return err
	}
	defer watcher.Stop()
	if _, err := client.Resource(definitions).Create(ctx, definition, metav1.CreateOptions{}); err != nil {
		return err
	}
	for event := range watcher.ResultChan() {
		conditions, _, _ := unstructured.NestedSlice(event.Object.(*unstructured.Unstructured).Object, "status", "conditions")
		for _, one := range conditions {
			if found := one.(map[string]any); found["type"] == "Established" && found["status"] == "True" {
				return nil
			}
		}
	}
	return fmt.Errorf("the definition was never established")
}

// custom takes a custom resource through the dynamic client.
func custom(ctx context.Context, client dynamic.Interface, namespace string) error {
	if err := define(ctx, client); err != nil {
		return err
	}
	defer client.Resource(definitions).Delete(context.Background(), "gadgets.judges.example.com", metav1.DeleteOptions{})
	own := client.Resource(gadgets).Namespace(namespace)
	made, err := own.Create(ctx, gadget("one", map[string]any{}), metav1.CreateOptions{})
	if err != nil {
		return err
	}
	size, _, err := unstructured.NestedInt64(made.Object, "spec", "size")
	if err := expect(size == 3, fmt.Sprintf("default: %v", made), err); err != nil {
		return err
	}
	_, err = own.Create(ctx, gadget("two", map[string]any{"size": int64(0)}), metav1.CreateOptions{})
	if err := expect(apierrors.IsInvalid(err), fmt.Sprintf("too small: %v", err), nil); err != nil {
		return err
	}
	applied, err := own.Apply(ctx, "one", gadget("one", map[string]any{"size": int64(5)}), metav1.ApplyOptions{FieldManager: "applier", Force: true})
	size, _, _ = unstructured.NestedInt64(applied.Object, "spec", "size")
	if err := expect(err == nil && size == 5 && applied.GetGeneration() == 2, "apply", err); err != nil {
		return err
	}
	status := gadget("one", nil)
	status.Object["status"] = map[string]any{"ready": true}
	delete(status.Object, "spec")
	judged, err := own.ApplyStatus(ctx, "one", status, metav1.ApplyOptions{FieldManager: "judge"})
	if err != nil {
		return err
	}
	ready, _, err := unstructured.NestedBool(judged.Object, "status", "ready")
	if err := expect(ready && judged.GetGeneration() == 2, "applied status", err); err != nil {
		return err
	}
	watcher, err := own.Watch(ctx, metav1.ListOptions{ResourceVersion: judged.GetResourceVersion()})
	if err != nil {
		return err
	}
	defer watcher.Stop()
	if _, err := own.Patch(ctx, "one", types.MergePatchType, []byte(`{"spec": {"size": 6}}`), metav1.PatchOptions{}); err != nil {
		return err
	}
	if err := own.Delete(ctx, "one", metav1.DeleteOptions{}); err != nil {
		return err
	}
	return told(watcher, watch.Modified, watch.Deleted)
}

// told reads the events of a watch, which must be of these types.
func told(watcher watch.Interface, wanted ...watch.EventType) error {
	for _, expected := range wanted {
		if event := <-watcher.ResultChan(); event.Type != expected {
			return fmt.Errorf("the watch told %v, not %s", event, expected)
		}
	}
	return nil
}

// alone takes objects through the client that sees only their metadata.
func alone(ctx context.Context, client kubernetes.Interface, own metadata.Interface, namespace string) error {
	maps := schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}
	made, err := client.CoreV1().ConfigMaps(namespace).Create(ctx, &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: "meta", Labels: map[string]string{"part": "metadata"}}, Data: map[string]string{"a": "b"},
	}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	found, err := own.Resource(maps).Namespace(namespace).Get(ctx, "meta", metav1.GetOptions{})
	if err := expect(err == nil && found.UID == made.UID && found.Labels["part"] == "metadata", "get", err); err != nil {
		return err
	}
	list, err := own.Resource(maps).List(ctx, metav1.ListOptions{LabelSelector: "part=metadata", Limit: 10})
	if err := expect(err == nil && len(list.Items) == 1 && list.ResourceVersion != "", "list", err); err != nil {
		return err
	}
	watcher, err := own.Resource(maps).Namespace(namespace).Watch(ctx, metav1.ListOptions{
		LabelSelector: "part=metadata", ResourceVersion: list.ResourceVersion,
	})
	if err != nil {
		return err
	}
	defer watcher.Stop()
	patched, err := own.Resource(maps).Namespace(namespace).Patch(ctx, "meta", types.MergePatchType,
		[]byte(`{"metadata": {"annotations": {"x": "y"}}}`), metav1.PatchOptions{})
	if err := expect(err == nil && patched.Annotations["x"] == "y", "patch", err); err != nil {
		return err
	}
	full, err := client.CoreV1().ConfigMaps(namespace).Get(ctx, "meta", metav1.GetOptions{})
	if err := expect(err == nil && full.Data["a"] == "b", "the rest is kept", err); err != nil {
		return err
	}
	if err := own.Resource(maps).Namespace(namespace).Delete(ctx, "meta", metav1.DeleteOptions{}); err != nil {
		return err
	}
	return told(watcher, watch.Modified, watch.Deleted)
}
