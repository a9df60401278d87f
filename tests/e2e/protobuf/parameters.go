package main

import (
	"encoding/json"
	"io"
	"reflect"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var optionKinds = []interface{ SwaggerDoc() map[string]string }{
	metav1.CreateOptions{}, metav1.DeleteOptions{}, metav1.GetOptions{}, metav1.ListOptions{}, metav1.PatchOptions{},
	metav1.UpdateOptions{}, corev1.NodeProxyOptions{}, corev1.PodAttachOptions{}, corev1.PodExecOptions{},
	corev1.PodLogOptions{}, corev1.PodPortForwardOptions{}, corev1.PodProxyOptions{}, corev1.ServiceProxyOptions{},
}

var parameterTypes = map[reflect.Kind]string{
	reflect.String: "string", reflect.Bool: "boolean", reflect.Int32: "integer", reflect.Int64: "integer",
}

// writeParameters prints which query parameters the kinds of options have: their types in OpenAPI and what they are for.
func writeParameters(out io.Writer) error {
	found := map[string]map[string][2]string{}
	for _, options := range optionKinds {
		typ := reflect.TypeOf(options)
		found[typ.Name()] = map[string][2]string{}
		for i := range typ.NumField() {
			name, _, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ",")
			of := typ.Field(i).Type
			for of.Kind() == reflect.Pointer || of.Kind() == reflect.Slice {
				of = of.Elem()
			}
			if told, scalar := parameterTypes[of.Kind()]; scalar && name != "" {
				found[typ.Name()][name] = [2]string{told, options.SwaggerDoc()[name]}
			}
		}
	}
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", " ")
	return encoder.Encode(found)
}
