// Runs sequences of updates and server-side applies through Kubernetes' own field manager and prints what became of
// them: the oracle of test_ownership.py.
//
// Standard input: one JSON array of sequences; a sequence has a kind and steps. Standard output: for each sequence the
// outcome of every step.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/apimachinery/pkg/util/managedfields/managedfieldstest"
	"k8s.io/client-go/applyconfigurations"
	"k8s.io/client-go/kubernetes/scheme"
)

type step struct {
	Operation string         `json:"operation"`
	Manager   string         `json:"manager"`
	Force     bool           `json:"force"`
	Object    map[string]any `json:"object"`
}

type sequence struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Steps      []step `json:"steps"`
}

type outcome struct {
	Object    map[string]any              `json:"object,omitempty"`
	Managed   []metav1.ManagedFieldsEntry `json:"managed,omitempty"`
	Conflicts []metav1.StatusCause        `json:"conflicts,omitempty"`
	Error     string                      `json:"error,omitempty"`
}

func main() {
	var sequences []sequence
	if err := json.NewDecoder(os.Stdin).Decode(&sequences); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	types := applyconfigurations.NewTypeConverter(scheme.Scheme)
	outcomes := make([][]outcome, 0, len(sequences))
	for _, one := range sequences {
		outcomes = append(outcomes, run(types, one))
	}
	if err := json.NewEncoder(os.Stdout).Encode(outcomes); err != nil {
		os.Exit(1)
	}
}

func run(types managedfields.TypeConverter, one sequence) []outcome {
	kind := schema.FromAPIVersionAndKind(one.APIVersion, one.Kind)
	manager := managedfieldstest.NewTestFieldManager(types, kind)
	outcomes := make([]outcome, 0, len(one.Steps))
	for _, step := range one.Steps {
		outcomes = append(outcomes, take(manager, step))
	}
	return outcomes
}

func take(manager managedfieldstest.TestFieldManager, step step) outcome {
	object := &unstructured.Unstructured{Object: step.Object}
	var err error
	if step.Operation == "Apply" {
		err = manager.Apply(object, step.Manager, step.Force)
	} else {
		err = manager.Update(object, step.Manager)
	}
	if err != nil {
		var status *apierrors.StatusError
		if errors.As(err, &status) && status.ErrStatus.Details != nil {
			return outcome{Conflicts: status.ErrStatus.Details.Causes}
		}
		return outcome{Error: err.Error()}
	}
	live := manager.Live().DeepCopyObject()
	if accessor, err := meta.Accessor(live); err == nil {
		accessor.SetManagedFields(nil)
	}
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(live)
	if err != nil {
		return outcome{Error: err.Error()}
	}
	return outcome{Object: content, Managed: manager.ManagedFields()}
}
