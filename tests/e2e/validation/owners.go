package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/controller/openapi/builder"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/apimachinery/pkg/util/managedfields/managedfieldstest"
)

// written is one write of an object: an update, or an apply.
type written struct {
	Operation string          `json:"operation"`
	Manager   string          `json:"manager"`
	Force     bool            `json:"force"`
	Object    json.RawMessage `json:"object"`
}

// history is what becomes of one object of a custom kind.
type history struct {
	Definition apiextensionsv1.CustomResourceDefinition `json:"definition"`
	Steps      []written                                `json:"steps"`
}

// left is what a write has left, or why it was refused.
type left struct {
	Object    map[string]any              `json:"object,omitempty"`
	Managed   []metav1.ManagedFieldsEntry `json:"managed,omitempty"`
	Conflicts []metav1.StatusCause        `json:"conflicts,omitempty"`
	Error     string                      `json:"error,omitempty"`
}

// tellOwners answers an array of histories with what Kubernetes' field manager, which knows the types that are
// published for the first version of each definition, leaves after each step. Nothing is pruned or defaulted.
func tellOwners(in io.Reader, out io.Writer) error {
	var histories []history
	if err := json.NewDecoder(in).Decode(&histories); err != nil {
		return err
	}
	answers := make([][]left, 0, len(histories))
	for i := range histories {
		answer, err := histories[i].run()
		if err != nil {
			return err
		}
		answers = append(answers, answer)
	}
	return json.NewEncoder(out).Encode(answers)
}

func (h *history) run() ([]left, error) {
	version := h.Definition.Spec.Versions[0].Name
	published, err := builder.BuildOpenAPIV3(&h.Definition, version, builder.Options{})
	if err != nil {
		return nil, err
	}
	types, err := managedfields.NewTypeConverter(published.Components.Schemas, false)
	if err != nil {
		return nil, err
	}
	spec := h.Definition.Spec
	kind := schema.GroupVersionKind{Group: spec.Group, Version: version, Kind: spec.Names.Kind}
	manager := managedfieldstest.NewTestFieldManager(types, kind)
	answers := make([]left, 0, len(h.Steps))
	for _, step := range h.Steps {
		answers = append(answers, step.take(manager))
	}
	return answers, nil
}

func (w written) take(manager managedfieldstest.TestFieldManager) left {
	object := &unstructured.Unstructured{}
	err := object.UnmarshalJSON(w.Object)
	switch {
	case err != nil:
	case w.Operation == "Apply":
		err = manager.Apply(object, w.Manager, w.Force)
	default:
		err = manager.Update(object, w.Manager)
	}
	if err != nil {
		var status *apierrors.StatusError
		if errors.As(err, &status) && status.ErrStatus.Details != nil {
			return left{Conflicts: status.ErrStatus.Details.Causes}
		}
		return left{Error: err.Error()}
	}
	live, isObject := manager.Live().(*unstructured.Unstructured)
	if !isObject {
		return left{Error: fmt.Sprintf("left is a %T", manager.Live())}
	}
	live = live.DeepCopy()
	if accessor, err := meta.Accessor(live); err == nil {
		accessor.SetManagedFields(nil)
	}
	return left{Object: live.Object, Managed: manager.ManagedFields()}
}
