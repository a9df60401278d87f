// envtest of controller-runtime on a cluster that is there: it installs a definition with a conversion webhook and
// webhooks for admission, all of which lead to a server in this process, whose own certificate is their CA bundle.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	admissionregistration "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/webhook"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
)

const group = "environment.example.com"

// notes is what the webhooks know of ConfigMaps.
type notes struct{}

func (notes) Default(_ context.Context, note *corev1.ConfigMap) error {
	if note.Data == nil {
		note.Data = map[string]string{"written": "by the webhook"}
	}
	return nil
}

func (notes) judge(note *corev1.ConfigMap) (admission.Warnings, error) {
	if note.Data["forbidden"] != "" {
		return nil, errors.New("that may not be said")
	}
	return admission.Warnings{"looked at"}, nil
}

func (n notes) ValidateCreate(_ context.Context, note *corev1.ConfigMap) (admission.Warnings, error) {
	return n.judge(note)
}

func (n notes) ValidateUpdate(_ context.Context, _, note *corev1.ConfigMap) (admission.Warnings, error) {
	return n.judge(note)
}

func (notes) ValidateDelete(context.Context, *corev1.ConfigMap) (admission.Warnings, error) {
	return nil, nil
}

// convert says of objects that they are of the version that is wanted, and in an annotation who has said so.
func convert(answer http.ResponseWriter, request *http.Request) {
	var review apiextensions.ConversionReview
	if err := json.NewDecoder(request.Body).Decode(&review); err != nil {
		http.Error(answer, err.Error(), http.StatusBadRequest)
		return
	}
	converted := &apiextensions.ConversionResponse{UID: review.Request.UID, Result: metav1.Status{Status: metav1.StatusSuccess}}
	for _, given := range review.Request.Objects {
		var object unstructured.Unstructured
		if err := object.UnmarshalJSON(given.Raw); err != nil {
			http.Error(answer, err.Error(), http.StatusBadRequest)
			return
		}
		object.SetAPIVersion(review.Request.DesiredAPIVersion)
		object.SetAnnotations(map[string]string{"converted": "here"})
		converted.ConvertedObjects = append(converted.ConvertedObjects, runtime.RawExtension{Object: &object})
	}
	review.Request, review.Response = nil, converted
	_ = json.NewEncoder(answer).Encode(review)
}

// gadgets are stored in v1 and served in v2, too.
func gadgets() *apiextensions.CustomResourceDefinition {
	keep := true
	version := func(name string, storage bool) apiextensions.CustomResourceDefinitionVersion {
		object := &apiextensions.JSONSchemaProps{Type: "object", XPreserveUnknownFields: &keep}
		return apiextensions.CustomResourceDefinitionVersion{
			Name: name, Served: true, Storage: storage,
			Schema: &apiextensions.CustomResourceValidation{OpenAPIV3Schema: object},
		}
	}
	return &apiextensions.CustomResourceDefinition{
		ObjectMeta: metav1.ObjectMeta{Name: "gadgets." + group},
		Spec: apiextensions.CustomResourceDefinitionSpec{
			Group:    group,
			Scope:    apiextensions.NamespaceScoped,
			Names:    apiextensions.CustomResourceDefinitionNames{Plural: "gadgets", Singular: "gadget", Kind: "Gadget"},
			Versions: []apiextensions.CustomResourceDefinitionVersion{version("v1", true), version("v2", false)},
			Conversion: &apiextensions.CustomResourceConversion{
				Strategy: apiextensions.WebhookConverter,
				Webhook:  &apiextensions.WebhookConversion{ConversionReviewVersions: []string{"v1"}},
			},
		},
	}
}

// hook is where a webhook is said to be, which envtest replaces by where it is.
func hook(path string) admissionregistration.WebhookClientConfig {
	service := &admissionregistration.ServiceReference{Name: "none", Namespace: "default", Path: &path}
	return admissionregistration.WebhookClientConfig{Service: service}
}

func hooks(namespace string) envtest.WebhookInstallOptions {
	rules := []admissionregistration.RuleWithOperations{{
		Operations: []admissionregistration.OperationType{"CREATE", "UPDATE"},
		Rule:       admissionregistration.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"configmaps"}},
	}}
	here := &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: namespace}}
	none := admissionregistration.SideEffectClassNone
	meta := metav1.ObjectMeta{Name: "environment"}
	return envtest.WebhookInstallOptions{
		IgnoreSchemeConvertible: true,
		MutatingWebhooks: []*admissionregistration.MutatingWebhookConfiguration{{
			ObjectMeta: meta,
			Webhooks: []admissionregistration.MutatingWebhook{{
				Name: "default." + group, ClientConfig: hook("/mutate--v1-configmap"), Rules: rules,
				NamespaceSelector: here, SideEffects: &none, AdmissionReviewVersions: []string{"v1"},
			}},
		}},
		ValidatingWebhooks: []*admissionregistration.ValidatingWebhookConfiguration{{
			ObjectMeta: meta,
			Webhooks: []admissionregistration.ValidatingWebhook{{
				Name: "judge." + group, ClientConfig: hook("/validate--v1-configmap"), Rules: rules,
				NamespaceSelector: here, SideEffects: &none, AdmissionReviewVersions: []string{"v1"},
			}},
		}},
	}
}

func main() {
	ctrl.SetLogger(klog.Background())
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("defaulted, refused and converted")
}

func run(kubeconfig, namespace string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	there := true
	environment := &envtest.Environment{
		UseExistingCluster:    &there,
		Config:                config,
		CRDInstallOptions:     envtest.CRDInstallOptions{CRDs: []*apiextensions.CustomResourceDefinition{gadgets()}, CleanUpAfterUse: true},
		WebhookInstallOptions: hooks(namespace),
	}
	if _, err := environment.Start(); err != nil {
		return err
	}
	err = serve(ctx, environment, namespace)
	return errors.Join(err, remove(ctx, environment), environment.Stop())
}

// remove takes away the webhooks' configurations, which envtest leaves to the end of a cluster of its own.
func remove(ctx context.Context, environment *envtest.Environment) error {
	live, err := client.New(environment.Config, client.Options{})
	if err != nil {
		return err
	}
	meta := metav1.ObjectMeta{Name: "environment"}
	return errors.Join(
		live.Delete(ctx, &admissionregistration.MutatingWebhookConfiguration{ObjectMeta: meta}),
		live.Delete(ctx, &admissionregistration.ValidatingWebhookConfiguration{ObjectMeta: meta}),
	)
}

// serve answers webhooks while the cluster is judged.
func serve(ctx context.Context, environment *envtest.Environment, namespace string) error {
	options := environment.WebhookInstallOptions
	manager, err := ctrl.NewManager(environment.Config, ctrl.Options{
		Metrics: server.Options{BindAddress: "0"},
		WebhookServer: webhook.NewServer(webhook.Options{
			Host: options.LocalServingHost, Port: options.LocalServingPort, CertDir: options.LocalServingCertDir,
		}),
	})
	if err != nil {
		return err
	}
	built := ctrl.NewWebhookManagedBy(manager, &corev1.ConfigMap{}).WithDefaulter(notes{}).WithValidator(notes{})
	if err := built.Complete(); err != nil {
		return err
	}
	manager.GetWebhookServer().Register("/convert", http.HandlerFunc(convert))
	running, stop := context.WithCancel(ctx)
	defer stop()
	stopped := make(chan error, 1)
	go func() { stopped <- manager.Start(running) }()
	for manager.GetWebhookServer().StartedChecker()(nil) != nil {
		select {
		case err := <-stopped:
			return errors.Join(errors.New("the webhook server has ended"), err)
		case <-time.After(50 * time.Millisecond):
		}
	}
	live := manager.GetAPIReader()
	err = errors.Join(admit(ctx, manager.GetClient(), namespace), turn(ctx, manager.GetClient(), live, namespace))
	stop()
	return errors.Join(err, <-stopped)
}

// admit writes ConfigMaps, which the webhooks default and judge.
func admit(ctx context.Context, writer client.Client, namespace string) error {
	plain := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "plain", Namespace: namespace}}
	if err := writer.Create(ctx, plain); err != nil {
		return err
	}
	if plain.Data["written"] != "by the webhook" {
		return fmt.Errorf("not defaulted: %v", plain.Data)
	}
	plain.Data["forbidden"] = "yes"
	err := writer.Update(ctx, plain)
	if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "that may not be said") {
		return fmt.Errorf("not refused as it must be: %w", err)
	}
	return nil
}

// turn writes a gadget in one version and reads it in the other.
func turn(ctx context.Context, writer client.Client, live client.Reader, namespace string) error {
	gadget := &unstructured.Unstructured{}
	gadget.SetGroupVersionKind(schema.GroupVersionKind{Group: group, Version: "v1", Kind: "Gadget"})
	gadget.SetName("one")
	gadget.SetNamespace(namespace)
	if err := writer.Create(ctx, gadget); err != nil {
		return err
	}
	other := &unstructured.Unstructured{}
	other.SetGroupVersionKind(schema.GroupVersionKind{Group: group, Version: "v2", Kind: "Gadget"})
	if err := live.Get(ctx, client.ObjectKeyFromObject(gadget), other); err != nil {
		return err
	}
	if other.GetAnnotations()["converted"] != "here" || other.GetUID() != gadget.GetUID() {
		return fmt.Errorf("not converted: %v", other.Object)
	}
	return nil
}
