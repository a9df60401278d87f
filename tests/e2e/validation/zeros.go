package main

import (
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
)

// What zero values of types that marshal themselves look like.
var marshaled = map[reflect.Type]string{
	reflect.TypeFor[metav1.Time]():          "null",
	reflect.TypeFor[metav1.MicroTime]():     "null",
	reflect.TypeFor[metav1.FieldsV1]():      "null",
	reflect.TypeFor[runtime.RawExtension](): "null",
	reflect.TypeFor[apiextensionsv1.JSON](): "null",
	reflect.TypeFor[resource.Quantity]():    `"0"`,
	reflect.TypeFor[intstr.IntOrString]():   "0",
}

// writeZeros prints what the published schemas do not tell of Go's types and what becomes of a zero value depends on.
// The form is explained at the top of build_backend/zero_values.txt.
func writeZeros(out io.Writer) {
	seen := zeroWalker{lines: map[string]string{}}
	for gvk, typ := range legacyscheme.Scheme.AllKnownTypes() {
		if gvk.Version != runtime.APIVersionInternal {
			seen.visit(typ)
		}
	}
	seen.visit(reflect.TypeFor[apiextensionsv1.CustomResourceDefinition]())
	seen.visit(reflect.TypeFor[apiregistrationv1.APIService]())
	names := []string{}
	for name := range seen.lines {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		fmt.Fprintf(out, "%s:%s\n", name, seen.lines[name])
	}
}

type zeroWalker struct{ lines map[string]string }

func (w *zeroWalker) visit(typ reflect.Type) {
	for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice || typ.Kind() == reflect.Map {
		typ = typ.Elem()
	}
	if typ.Kind() != reflect.Struct || marshaled[typ] != "" || !strings.HasPrefix(typ.PkgPath(), "k8s.io/") {
		return
	}
	name := definition(typ)
	if _, done := w.lines[name]; done {
		return
	}
	w.lines[name] = ""
	words := []string{}
	w.fields(typ, &words)
	slices.Sort(words)
	for _, word := range words {
		w.lines[name] += " " + word
	}
}

// fields collects a word for each field that is not simply left out when it is zero, embedded ones included.
func (w *zeroWalker) fields(typ reflect.Type, words *[]string) {
	for i := range typ.NumField() {
		field := typ.Field(i)
		tag := strings.Split(field.Tag.Get("json"), ",")
		if tag[0] == "-" || !field.IsExported() {
			continue
		}
		if tag[0] == "" {
			if field.Type.Kind() == reflect.Struct {
				w.fields(field.Type, words)
			}
			continue
		}
		w.visit(field.Type)
		if word := zeroWord(field.Type, tag); word != "" {
			*words = append(*words, word)
		}
	}
}

func zeroWord(typ reflect.Type, tag []string) string {
	name, omitEmpty, omitZero := tag[0], slices.Contains(tag, "omitempty"), slices.Contains(tag, "omitzero")
	text, special := marshaled[typ]
	switch {
	case typ.Kind() == reflect.Pointer && (omitEmpty || omitZero):
		if typ.Elem().Kind() == reflect.Struct {
			return ""
		}
		return "*" + name
	case typ.Kind() == reflect.Pointer, typ.Kind() == reflect.Slice && !omitEmpty, typ.Kind() == reflect.Map && !omitEmpty:
		return name + "=null"
	case typ.Kind() == reflect.Slice, typ.Kind() == reflect.Map:
		return ""
	case typ.Kind() == reflect.Struct && omitZero && !special:
		return "-" + name
	case omitZero:
		return ""
	case special:
		return name + "=" + text
	case typ.Kind() == reflect.Struct:
		return name + "={}"
	case omitEmpty:
		return ""
	case typ.Kind() == reflect.String:
		return name + `=""`
	case typ.Kind() == reflect.Bool:
		return name + "=false"
	}
	return name + "=0"
}

// definition is what OpenAPI calls a type: io.k8s.api.core.v1.Pod.
func definition(typ reflect.Type) string {
	path := strings.Replace(typ.PkgPath(), "k8s.io/", "io.k8s.", 1)
	return strings.ReplaceAll(path, "/", ".") + "." + typ.Name()
}
