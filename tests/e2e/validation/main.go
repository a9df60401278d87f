// What Kubernetes' own registry makes of objects: their defaults, and what is wrong with them.
//
// Reads one JSON request a line and answers each with one line. A request is
// {"operation": "create" | "update" | the name of a subresource, "object": {...}, "old": {...}}, for an object of a
// custom kind with {"definition": {...}}; the answer is
// {"object": {...}} as it would have been stored, {"status": {...}} as a client would have been told, or
// {"undecodable": "..."}. Nothing is stored and no admission plugin runs.
//
// With the argument "zeros" it prints the facts of build_backend/zero_values.txt instead, with "rights" it judges who
// may do what (rights.go), with "tables" it prints rows (tables.go), with "documents" what OpenAPI tells of custom kinds
// (documents.go), with "owners" who owns what of objects of custom kinds (owners.go).
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/apiserver/pkg/authentication/user"
	genericapirequest "k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/warning"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	"k8s.io/kubernetes/pkg/capabilities"
)

type question struct {
	Operation  string          `json:"operation"`
	Object     json.RawMessage `json:"object"`
	Old        json.RawMessage `json:"old,omitempty"`
	Definition json.RawMessage `json:"definition,omitempty"`
}

type answer struct {
	Object      json.RawMessage `json:"object,omitempty"`
	Status      *metav1.Status  `json:"status,omitempty"`
	Undecodable string          `json:"undecodable,omitempty"`
	Warnings    []string        `json:"warnings,omitempty"`
}

// heard collects the warnings of one request.
type heard []string

func (h *heard) AddWarning(_, text string) { *h = append(*h, text) }

func main() {
	// Mismatches between hand-written and declarative rules are logged; they are upstream's business.
	flags := flag.NewFlagSet("klog", flag.ContinueOnError)
	klog.InitFlags(flags)
	_ = flags.Set("logtostderr", "false")
	klog.SetOutput(io.Discard)
	// As with --allow-privileged, which clusters are set up with.
	capabilities.Setup(true, 0)

	if len(os.Args) > 1 && os.Args[1] == "zeros" {
		writeZeros(os.Stdout)
		return
	}
	others := map[string]func(io.Reader, io.Writer) error{
		"rights": judgeRights, "tables": printTables, "documents": printDocuments,
		"owners": tellOwners,
	}
	if len(os.Args) > 1 && others[os.Args[1]] != nil {
		if err := others[os.Args[1]](os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	requests := bufio.NewScanner(os.Stdin)
	requests.Buffer(nil, 16<<20)
	answers := bufio.NewWriter(os.Stdout)
	for requests.Scan() {
		line, err := json.Marshal(answerTo(requests.Bytes()))
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		answers.Write(append(line, '\n'))
	}
	if err := errors.Join(requests.Err(), answers.Flush()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func answerTo(line []byte) (given answer) {
	var asked question
	if err := json.Unmarshal(line, &asked); err != nil {
		return answer{Undecodable: err.Error()}
	}
	defer func() {
		// A registry that panics answers 500; here it names what did.
		if broken := recover(); broken != nil {
			given = answer{Undecodable: fmt.Sprintf("panic: %v", broken)}
		}
	}()
	if len(asked.Definition) > 0 {
		return answerToCustom(asked)
	}
	if asked.Operation == "scale" {
		return answerToScale(asked)
	}
	obj, gvk, err := decode(asked.Object)
	if err != nil {
		return answer{Undecodable: err.Error()}
	}
	kind, known := kinds[gvk.GroupKind()]
	if !known {
		return answer{Undecodable: "no strategy for " + gvk.String()}
	}
	var old runtime.Object
	if len(asked.Old) > 0 {
		if old, _, err = decode(asked.Old); err != nil {
			return answer{Undecodable: "old: " + err.Error()}
		}
	}
	warnings := heard{}
	ctx := requestContext(asked.Operation, obj, *gvk, &warnings)
	stored, err := kind.write(ctx, asked.Operation, obj, old)
	if err != nil {
		return refusal(err, warnings)
	}
	if stored, err = throughStorage(stored, gvk.GroupKind()); err != nil {
		return answer{Undecodable: err.Error()}
	}
	encoded, err := runtime.Encode(legacyscheme.Codecs.LegacyCodec(gvk.GroupVersion()), stored)
	if err != nil {
		return answer{Undecodable: err.Error()}
	}
	return answer{Object: encoded, Warnings: warnings}
}

func refusal(err error, warnings heard) answer {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		// What an API server makes of an error that says no more.
		told := metav1.Status{Status: metav1.StatusFailure, Code: http.StatusInternalServerError, Message: err.Error()}
		return answer{Status: &told, Warnings: warnings}
	}
	told := status.Status()
	return answer{Status: &told, Warnings: warnings}
}

// throughStorage writes and reads, in protobuf as API servers do, which tells no empty list from none. What is read gets
// defaults once more, so that labels made on creation count, too.
func throughStorage(obj runtime.Object, kind schema.GroupKind) (runtime.Object, error) {
	var versions []schema.GroupVersion
	for _, version := range legacyscheme.Scheme.PrioritizedVersionsForGroup(kind.Group) {
		if legacyscheme.Scheme.Recognizes(version.WithKind(kind.Kind)) {
			versions = append(versions, version)
		}
	}
	form := protobuf.NewSerializer(legacyscheme.Scheme, legacyscheme.Scheme)
	codec := legacyscheme.Codecs.CodecForVersions(form, form, schema.GroupVersions(versions), runtime.InternalGroupVersioner)
	stored, err := runtime.Encode(codec, obj)
	if err != nil {
		return nil, err
	}
	return runtime.Decode(codec, stored)
}

// strict refuses unknown fields, so that a corpus with spelling mistakes is noticed.
var strict = serializer.NewCodecFactory(legacyscheme.Scheme, serializer.EnableStrict).UniversalDeserializer()

// decode gives the internal object with the defaults of its version.
func decode(raw []byte) (runtime.Object, *schema.GroupVersionKind, error) {
	obj, gvk, err := strict.Decode(raw, nil, nil)
	if err != nil {
		return nil, nil, err
	}
	legacyscheme.Scheme.Default(obj)
	internal, err := legacyscheme.Scheme.UnsafeConvertToVersion(obj, runtime.InternalGroupVersioner)
	return internal, gvk, err
}

func requestContext(operation string, obj runtime.Object, gvk schema.GroupVersionKind, warnings *heard) context.Context {
	accessor, _ := meta.Accessor(obj)
	info := &genericapirequest.RequestInfo{
		IsResourceRequest: true,
		APIGroup:          gvk.Group,
		APIVersion:        gvk.Version,
		Name:              accessor.GetName(),
		Namespace:         accessor.GetNamespace(),
		Verb:              "update",
	}
	switch operation {
	case "create":
		info.Verb = "create"
	case "update":
	default:
		info.Subresource = operation
	}
	ctx := genericapirequest.WithRequestInfo(context.Background(), info)
	ctx = genericapirequest.WithNamespace(ctx, accessor.GetNamespace())
	ctx = genericapirequest.WithUser(ctx, &user.DefaultInfo{Name: "admin", Groups: []string{"system:masters", "system:authenticated"}})
	return warning.WithWarningRecorder(ctx, warnings)
}

// write does what the generic store does between decoding and storing.
func (k kind) write(ctx context.Context, operation string, obj, old runtime.Object) (runtime.Object, error) {
	if k.store != nil {
		return k.store(ctx, operation, obj, old)
	}
	accessor, err := meta.Accessor(obj)
	if err != nil {
		return nil, err
	}
	if operation == "create" {
		rest.FillObjectMetaSystemFields(accessor)
		if base := accessor.GetGenerateName(); accessor.GetName() == "" && base != "" {
			name := base + "xxxxx"
			if k.create.GenerateName(base) == base {
				// There is nothing to add to an address.
				name = base
			}
			accessor.SetName(name)
		}
		return obj, rest.BeforeCreate(k.create, ctx, obj)
	}
	strategy := k.updates[operation]
	if strategy == nil {
		return nil, fmt.Errorf("no strategy for %s", operation)
	}
	return obj, rest.BeforeUpdate(strategy, ctx, obj, old)
}
