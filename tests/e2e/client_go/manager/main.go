// A controller of controller-runtime on a custom resource: manager with leader election, cache with an index,
// server-side apply of what it owns, status patches, a finalizer and events. The resource's definition must be there.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	coreapply "k8s.io/client-go/applyconfigurations/core/v1"
	metaapply "k8s.io/client-go/applyconfigurations/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/events"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"
)

const finalizer = "judges.example.com/cleanup"

type reconciler struct {
	client.Client
	events  events.EventRecorder
	cleaned chan string
}

func (r *reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	var widget Widget
	if err := r.Get(ctx, request.NamespacedName, &widget); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if !widget.DeletionTimestamp.IsZero() {
		if controllerutil.RemoveFinalizer(&widget, finalizer) {
			if err := r.Update(ctx, &widget); err != nil {
				return ctrl.Result{}, err
			}
			r.cleaned <- widget.Name
		}
		return ctrl.Result{}, nil
	}
	if controllerutil.AddFinalizer(&widget, finalizer) {
		if err := r.Update(ctx, &widget); err != nil {
			return ctrl.Result{}, err
		}
	}
	owner := metaapply.OwnerReference().WithAPIVersion(group.String()).WithKind("Widget").WithName(widget.Name).
		WithUID(widget.UID).WithController(true).WithBlockOwnerDeletion(true)
	made := coreapply.ConfigMap(widget.Name, widget.Namespace).
		WithOwnerReferences(owner).WithData(map[string]string{"text": widget.Spec.Text})
	if err := r.Apply(ctx, made, client.FieldOwner("widgets"), client.ForceOwnership); err != nil {
		return ctrl.Result{}, err
	}
	if widget.Status.Written == widget.Spec.Text && widget.Status.ObservedGeneration == widget.Generation {
		return ctrl.Result{}, nil
	}
	before := widget.DeepCopyObject().(*Widget)
	widget.Status = WidgetStatus{Written: widget.Spec.Text, ObservedGeneration: widget.Generation}
	r.events.Eventf(&widget, nil, corev1.EventTypeNormal, "Written", "Write", "wrote %q", widget.Spec.Text)
	return ctrl.Result{}, r.Status().Patch(ctx, &widget, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}))
}

func main() {
	ctrl.SetLogger(klog.Background())
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("reconciled")
}

func run(kubeconfig, namespace string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	known := runtime.NewScheme()
	utilruntime.Must(scheme.AddToScheme(known))
	addWidgets(known)
	manager, err := ctrl.NewManager(config, ctrl.Options{
		Scheme:                        known,
		Metrics:                       server.Options{BindAddress: "0"},
		Cache:                         cache.Options{DefaultNamespaces: map[string]cache.Config{namespace: {}}},
		LeaderElection:                true,
		LeaderElectionID:              "widgets",
		LeaderElectionNamespace:       namespace,
		LeaderElectionReleaseOnCancel: true,
	})
	if err != nil {
		return err
	}
	index := func(object client.Object) []string { return []string{object.(*Widget).Spec.Text} }
	if err := manager.GetFieldIndexer().IndexField(ctx, &Widget{}, "spec.text", index); err != nil {
		return err
	}
	widgets := &reconciler{manager.GetClient(), manager.GetEventRecorder("widgets"), make(chan string, 10)}
	if err := ctrl.NewControllerManagedBy(manager).For(&Widget{}).Owns(&corev1.ConfigMap{}).Complete(widgets); err != nil {
		return err
	}
	stopped := make(chan error, 1)
	running, stop := context.WithCancel(ctx)
	defer stop()
	go func() { stopped <- manager.Start(running) }()
	if !manager.GetCache().WaitForCacheSync(ctx) {
		return errors.New("the cache did not sync")
	}
	err = judge(ctx, manager.GetClient(), manager.GetAPIReader(), widgets, namespace)
	stop()
	return errors.Join(err, <-stopped)
}

// until waits for what the controller does, as its informers tell the cache.
func until(ctx context.Context, what string, done func() (bool, error)) error {
	err := wait.PollUntilContextCancel(ctx, 50*time.Millisecond, true, func(context.Context) (bool, error) {
		holds, err := done()
		return holds, client.IgnoreNotFound(err)
	})
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// judge makes, changes and deletes a widget, and looks at what the controller makes of it.
func judge(ctx context.Context, cached client.Client, live client.Reader, widgets *reconciler, namespace string) error {
	widget := &Widget{ObjectMeta: metav1.ObjectMeta{Name: "one", Namespace: namespace}, Spec: WidgetSpec{Text: "first"}}
	if err := cached.Create(ctx, widget); err != nil {
		return err
	}
	key := client.ObjectKeyFromObject(widget)
	written := func(text string) func() (bool, error) {
		return func() (bool, error) {
			var found Widget
			var made corev1.ConfigMap
			err := errors.Join(live.Get(ctx, key, &found), cached.Get(ctx, key, &made))
			if apierrors.IsNotFound(err) {
				return false, nil
			}
			return found.Status.Written == text && made.Data["text"] == text, err
		}
	}
	if err := until(ctx, "first", written("first")); err != nil {
		return err
	}
	var made corev1.ConfigMap
	if err := live.Get(ctx, key, &made); err != nil || !metav1.IsControlledBy(&made, widget) {
		return fmt.Errorf("who owns it: %v %w", made.OwnerReferences, err)
	}
	// The controller's own object is made again when somebody deletes it.
	if err := cached.Delete(ctx, &made); err != nil {
		return err
	}
	again := func() (bool, error) {
		var found corev1.ConfigMap
		err := live.Get(ctx, key, &found)
		return err == nil && found.UID != made.UID, err
	}
	if err := until(ctx, "made again", again); err != nil {
		return err
	}
	if err := cached.Patch(ctx, widget, client.RawPatch("application/merge-patch+json", []byte(`{"spec": {"text": "second"}}`))); err != nil {
		return err
	}
	if err := until(ctx, "second", written("second")); err != nil {
		return err
	}
	indexed := func() (bool, error) {
		var list WidgetList
		err := cached.List(ctx, &list, client.InNamespace(namespace), client.MatchingFields{"spec.text": "second"})
		return len(list.Items) == 1, err
	}
	if err := until(ctx, "indexed", indexed); err != nil {
		return err
	}
	told := func() (bool, error) {
		var list corev1.EventList
		err := live.List(ctx, &list, client.InNamespace(namespace), client.MatchingFields{"involvedObject.name": "one", "reason": "Written"})
		return len(list.Items) > 0, err
	}
	if err := until(ctx, "event", told); err != nil {
		return err
	}
	if err := cached.DeleteAllOf(ctx, &Widget{}, client.InNamespace(namespace)); err != nil {
		return err
	}
	if name := <-widgets.cleaned; name != "one" {
		return fmt.Errorf("%s was cleaned up", name)
	}
	// The garbage collector takes what the widget owned.
	return until(ctx, "collected", func() (bool, error) {
		err := live.Get(ctx, key, &corev1.ConfigMap{})
		return apierrors.IsNotFound(err), err
	})
}
