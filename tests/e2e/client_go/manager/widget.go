package main

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

var group = schema.GroupVersion{Group: "judges.example.com", Version: "v1"}

// Widget is a custom resource: a ConfigMap is made of each.
type Widget struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              WidgetSpec   `json:"spec"`
	Status            WidgetStatus `json:"status,omitempty"`
}

type WidgetSpec struct {
	Text string `json:"text"`
}

type WidgetStatus struct {
	Written            string `json:"written,omitempty"`
	ObservedGeneration int64  `json:"observedGeneration,omitempty"`
}

type WidgetList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Widget `json:"items"`
}

func (w *Widget) DeepCopyObject() runtime.Object {
	made := *w
	w.ObjectMeta.DeepCopyInto(&made.ObjectMeta)
	return &made
}

func (l *WidgetList) DeepCopyObject() runtime.Object {
	made := *l
	made.Items = make([]Widget, len(l.Items))
	for number := range l.Items {
		made.Items[number] = *l.Items[number].DeepCopyObject().(*Widget)
	}
	return &made
}

func addWidgets(scheme *runtime.Scheme) {
	scheme.AddKnownTypes(group, &Widget{}, &WidgetList{})
	metav1.AddToGroupVersion(scheme, group)
}
