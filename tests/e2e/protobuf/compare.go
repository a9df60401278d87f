package main

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/diff"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
)

//go:embed kinds.yaml
var kinds []byte

var (
	codecs     = serializer.NewCodecFactory(scheme)
	parameters = runtime.NewParameterCodec(scheme)
)

// comparison does everything with one resource twice, in protobuf and in JSON, and tells where they differ.
type comparison struct {
	protobuf, json *rest.RESTClient
	resource       metav1.APIResource
	kind           schema.GroupVersionKind
	namespace      string
}

// compareAll goes through every resource that the server lists; objects come from kinds.yaml.
func compareAll(ctx context.Context, config *rest.Config) error {
	objects, err := readKinds()
	if err != nil {
		return err
	}
	_, lists, err := discovery.NewDiscoveryClientForConfigOrDie(config).ServerGroupsAndResources()
	if err != nil {
		return err
	}
	compared, failures := 0, []error{}
	for _, list := range lists {
		version, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			return err
		}
		for _, resource := range discovery.FilteredBy(discovery.SupportsAllVerbs{Verbs: []string{"create", "list"}}, []*metav1.APIResourceList{list}) {
			for _, one := range resource.APIResources {
				kind := version.WithKind(one.Kind)
				object, ok := objects[kind]
				if !ok {
					failures = append(failures, fmt.Errorf("%v is not in kinds.yaml", kind))
					continue
				}
				it := comparison{resource: one, kind: kind}
				if one.Namespaced {
					it.namespace = "default"
				}
				it.protobuf, it.json = client(config, version, runtime.ContentTypeProtobuf), client(config, version, runtime.ContentTypeJSON)
				if err := it.run(ctx, object); err != nil {
					failures = append(failures, fmt.Errorf("%v: %w", kind, err))
				}
				compared++
			}
		}
	}
	fmt.Printf("compared %d kinds\n", compared)
	return errors.Join(failures...)
}

func client(config *rest.Config, version schema.GroupVersion, media string) *rest.RESTClient {
	own := rest.CopyConfig(config)
	own.ContentType, own.AcceptContentTypes = media, media
	own.GroupVersion, own.NegotiatedSerializer = &version, codecs.WithoutConversion()
	own.APIPath = "/apis"
	if version.Group == "" {
		own.APIPath = "/api"
	}
	made, err := rest.RESTClientFor(own)
	if err != nil {
		panic(err)
	}
	return made
}

func readKinds() (map[schema.GroupVersionKind]runtime.Object, error) {
	filled, err := fillIn(kinds)
	if err != nil {
		return nil, err
	}
	found := map[schema.GroupVersionKind]runtime.Object{}
	documents := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(filled), 4096)
	for {
		var raw runtime.RawExtension
		if err := documents.Decode(&raw); errors.Is(err, io.EOF) {
			return found, nil
		} else if err != nil {
			return nil, err
		}
		object, kind, err := codecs.UniversalDeserializer().Decode(raw.Raw, nil, nil)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", raw.Raw, err)
		}
		found[*kind] = object
	}
}

func (c *comparison) request(request *rest.Request, name string) *rest.Request {
	request = request.NamespaceIfScoped(c.namespace, c.namespace != "").Resource(c.resource.Name)
	if name != "" {
		request = request.Name(name)
	}
	return request
}

func (c *comparison) object() runtime.Object {
	made, err := scheme.New(c.kind)
	if err != nil {
		panic(err)
	}
	return made
}

func (c *comparison) run(ctx context.Context, given runtime.Object) error {
	name := accessor(given).GetName()
	if err := c.dryRuns(ctx, given); err != nil {
		return fmt.Errorf("dry run: %w", err)
	}
	made := c.object()
	if err := c.request(c.protobuf.Post(), "").Body(given).Do(ctx).Into(made); err != nil {
		return fmt.Errorf("create: %w", err)
	}
	defer c.request(c.json.Delete(), name).Body(&metav1.DeleteOptions{GracePeriodSeconds: new(int64)}).Do(ctx)
	if err := c.reads(ctx, made, name); err != nil {
		return err
	}
	if err := c.updates(ctx, name); err != nil {
		return err
	}
	return c.deletes(ctx, name)
}

// dryRuns creates the object in both forms without storing it: both must have become the same. What the server dates is
// dated by the second, so both must have been made within one.
func (c *comparison) dryRuns(ctx context.Context, given runtime.Object) error {
	for {
		inProtobuf, err := c.dryRun(ctx, c.protobuf, given)
		if err != nil {
			return err
		}
		inJSON, err := c.dryRun(ctx, c.json, given)
		if err != nil {
			return err
		}
		one, other := accessor(inProtobuf).GetCreationTimestamp(), accessor(inJSON).GetCreationTimestamp()
		if one.Equal(&other) {
			return same(inProtobuf, inJSON)
		}
	}
}

func (c *comparison) dryRun(ctx context.Context, client *rest.RESTClient, given runtime.Object) (runtime.Object, error) {
	made := c.object()
	options := &metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}
	if err := c.request(client.Post(), "").VersionedParams(options, parameters).Body(given).Do(ctx).Into(made); err != nil {
		return nil, err
	}
	about := accessor(made)
	about.SetUID("")
	about.SetManagedFields(nil)
	return made, nil
}

// reads gets, lists and watches the object.
func (c *comparison) reads(ctx context.Context, made runtime.Object, name string) error {
	inProtobuf, inJSON := c.object(), c.object()
	if err := c.agree(ctx, name, inProtobuf, inJSON); err != nil {
		return err
	}
	if accessor(made).GetUID() != accessor(inJSON).GetUID() {
		return fmt.Errorf("create answered with the uid %q", accessor(made).GetUID())
	}
	options := &metav1.ListOptions{FieldSelector: "metadata.name=" + name}
	lists := []runtime.Object{}
	for _, client := range []*rest.RESTClient{c.protobuf, c.json} {
		list, err := scheme.New(c.kind.GroupVersion().WithKind(c.kind.Kind + "List"))
		if err != nil {
			return err
		}
		if err := c.request(client.Get(), "").VersionedParams(options, parameters).Do(ctx).Into(list); err != nil {
			return fmt.Errorf("list: %w", err)
		}
		items, err := meta.ExtractList(list)
		if err != nil || len(items) != 1 {
			return fmt.Errorf("list: %d items, %v", len(items), err)
		}
		lists = append(lists, items[0])
	}
	if accessor(lists[0]).GetResourceVersion() == accessor(lists[1]).GetResourceVersion() {
		if err := same(lists[0], lists[1]); err != nil {
			return fmt.Errorf("list: %w", err)
		}
	}
	return c.watches(ctx, options, inJSON)
}

// agree reads the object in both forms until no controller has changed it in between.
func (c *comparison) agree(ctx context.Context, name string, inProtobuf, inJSON runtime.Object) error {
	for {
		if err := c.request(c.protobuf.Get(), name).Do(ctx).Into(inProtobuf); err != nil {
			return fmt.Errorf("get: %w", err)
		}
		if err := c.request(c.json.Get(), name).Do(ctx).Into(inJSON); err != nil {
			return fmt.Errorf("get: %w", err)
		}
		if accessor(inProtobuf).GetResourceVersion() == accessor(inJSON).GetResourceVersion() {
			if err := same(inProtobuf, inJSON); err != nil {
				return fmt.Errorf("get: %w", err)
			}
			return nil
		}
	}
}

func (c *comparison) watches(ctx context.Context, options *metav1.ListOptions, inJSON runtime.Object) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	own := *options
	own.Watch, own.SendInitialEvents, own.AllowWatchBookmarks = true, new(bool), true
	*own.SendInitialEvents, own.ResourceVersionMatch = true, metav1.ResourceVersionMatchNotOlderThan
	stream, err := c.request(c.protobuf.Get(), "").VersionedParams(&own, parameters).Watch(ctx)
	if err != nil {
		return fmt.Errorf("watch: %w", err)
	}
	defer stream.Stop()
	seen := false
	for event := range stream.ResultChan() {
		switch event.Type {
		case watch.Bookmark:
			if accessor(event.Object).GetAnnotations()[metav1.InitialEventsAnnotationKey] != "true" {
				continue
			}
			if !seen {
				return errors.New("watch: the object did not come")
			}
			return nil
		case watch.Added, watch.Modified:
			seen = true
			if accessor(event.Object).GetResourceVersion() == accessor(inJSON).GetResourceVersion() {
				if err := same(event.Object, inJSON); err != nil {
					return fmt.Errorf("watch: %w", err)
				}
			}
		default:
			return fmt.Errorf("watch: %v %v", event.Type, event.Object)
		}
	}
	return errors.New("watch: ended early")
}

// updates writes the object back with a label, and patches it: answered in protobuf, seen in JSON.
func (c *comparison) updates(ctx context.Context, name string) error {
	for {
		current := c.object()
		if err := c.request(c.protobuf.Get(), name).Do(ctx).Into(current); err != nil {
			return err
		}
		before := current.DeepCopyObject()
		accessor(current).SetLabels(map[string]string{"updated": "yes"})
		answer := c.object()
		err := c.request(c.protobuf.Put(), name).Body(current).Do(ctx).Into(answer)
		if apierrors.IsConflict(err) {
			continue
		}
		if err != nil {
			return fmt.Errorf("update: %w", err)
		}
		// Of EndpointSlices labels count, too.
		changed := c.kind.Kind != "EndpointSlice" && accessor(answer).GetGeneration() != accessor(before).GetGeneration()
		if accessor(answer).GetLabels()["updated"] != "yes" || changed {
			return fmt.Errorf("update: more than the label was changed: %s", diff.Diff(before, answer))
		}
		break
	}
	patched := c.object()
	patch := []byte(`{"metadata":{"labels":{"patched":"yes"}}}`)
	if err := c.request(c.protobuf.Patch(types.MergePatchType), name).Body(patch).Do(ctx).Into(patched); err != nil {
		return fmt.Errorf("patch: %w", err)
	}
	inJSON := c.object()
	if err := c.agree(ctx, name, c.object(), inJSON); err != nil {
		return err
	}
	if labels := accessor(inJSON).GetLabels(); labels["patched"] != "yes" || labels["updated"] != "yes" {
		return fmt.Errorf("labels are %v", labels)
	}
	return nil
}

func (c *comparison) deletes(ctx context.Context, name string) error {
	options := &metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions("another")}
	if err := c.request(c.protobuf.Delete(), name).Body(options).Do(ctx).Error(); !apierrors.IsConflict(err) {
		return fmt.Errorf("delete: a wrong uid was answered with %v", err)
	}
	if err := c.request(c.protobuf.Delete(), name).Body(&metav1.DeleteOptions{GracePeriodSeconds: new(int64)}).Do(ctx).Error(); err != nil {
		return fmt.Errorf("delete: %w", err)
	}
	err := c.request(c.protobuf.Get(), "absent").Do(ctx).Error()
	var status apierrors.APIStatus
	if !errors.As(err, &status) || status.Status().Reason != metav1.StatusReasonNotFound || status.Status().Details == nil {
		return fmt.Errorf("get: what is absent was answered with %v", err)
	}
	return nil
}

func accessor(object runtime.Object) metav1.Object {
	found, err := meta.Accessor(object)
	if err != nil {
		panic(err)
	}
	return found
}

// same compares but for the kinds, which protobuf does not tell of what is within another object.
func same(one, other runtime.Object) error {
	for _, object := range []runtime.Object{one, other} {
		object.GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{})
		if set, ok := object.(*appsv1.StatefulSet); ok {
			for i := range set.Spec.VolumeClaimTemplates {
				set.Spec.VolumeClaimTemplates[i].TypeMeta = metav1.TypeMeta{}
			}
		}
	}
	if !equality.Semantic.DeepEqual(one, other) {
		return fmt.Errorf("protobuf and JSON differ: %s", diff.Diff(one, other))
	}
	return nil
}
