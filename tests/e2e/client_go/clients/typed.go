package main

import (
	"context"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	appsapply "k8s.io/client-go/applyconfigurations/apps/v1"
	coreapply "k8s.io/client-go/applyconfigurations/core/v1"
	metaapply "k8s.io/client-go/applyconfigurations/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/util/retry"
)

// typed takes ConfigMaps and a Deployment through every verb of the typed client.
func typed(ctx context.Context, client kubernetes.Interface, namespace string) error {
	if err := configMaps(ctx, client, namespace); err != nil {
		return err
	}
	if err := pages(ctx, client, namespace); err != nil {
		return err
	}
	if err := deployment(ctx, client, namespace); err != nil {
		return err
	}
	token, err := client.CoreV1().ServiceAccounts(namespace).CreateToken(
		ctx, "default", &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	return expect(err == nil && token.Status.Token != "", "token", err)
}

func configMaps(ctx context.Context, client kubernetes.Interface, namespace string) error {
	maps := client.CoreV1().ConfigMaps(namespace)
	made, err := maps.Create(ctx, &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: "one", Labels: map[string]string{"part": "typed"}},
	}, metav1.CreateOptions{FieldManager: "typed"})
	if err := expect(err == nil && made.UID != "", "create", err); err != nil {
		return err
	}
	_, err = maps.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "one"}}, metav1.CreateOptions{})
	if err := expect(apierrors.IsAlreadyExists(err), "create again", nil); err != nil {
		return err
	}
	_, err = maps.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "One"}}, metav1.CreateOptions{})
	if err := expect(apierrors.IsInvalid(err), fmt.Sprintf("a bad name: %v", err), nil); err != nil {
		return err
	}
	watcher, err := maps.Watch(ctx, metav1.ListOptions{LabelSelector: "part=typed", ResourceVersion: made.ResourceVersion})
	if err != nil {
		return err
	}
	defer watcher.Stop()
	stale := made.DeepCopy()
	made.Data = map[string]string{"k": "1"}
	if made, err = maps.Update(ctx, made, metav1.UpdateOptions{}); err != nil {
		return err
	}
	_, err = maps.Update(ctx, stale, metav1.UpdateOptions{})
	if err := expect(apierrors.IsConflict(err), fmt.Sprintf("a stale update: %v", err), nil); err != nil {
		return err
	}
	err = retry.RetryOnConflict(retry.DefaultRetry, func() error {
		_, err := maps.Update(ctx, stale, metav1.UpdateOptions{})
		if apierrors.IsConflict(err) {
			stale, _ = maps.Get(ctx, "one", metav1.GetOptions{})
		}
		return err
	})
	if err := expect(err == nil, "retry", err); err != nil {
		return err
	}
	patched, err := maps.Patch(ctx, "one", types.JSONPatchType,
		[]byte(`[{"op": "replace", "path": "/data/k", "value": "2"}]`), metav1.PatchOptions{})
	if err := expect(err == nil && patched.Data["k"] == "2", "patch", err); err != nil {
		return err
	}
	applied, err := maps.Apply(ctx, coreapply.ConfigMap("one", namespace).WithData(map[string]string{"k": "3"}),
		metav1.ApplyOptions{FieldManager: "applier"})
	if err := expect(apierrors.IsConflict(err), fmt.Sprintf("apply what another owns: %v %v", applied, err), nil); err != nil {
		return err
	}
	applied, err = maps.Apply(ctx, coreapply.ConfigMap("one", namespace).WithData(map[string]string{"k": "3"}),
		metav1.ApplyOptions{FieldManager: "applier", Force: true})
	if err := expect(err == nil && applied.Data["k"] == "3", "apply by force", err); err != nil {
		return err
	}
	extracted, err := coreapply.ExtractConfigMap(applied, "applier")
	if err := expect(err == nil && extracted.Data["k"] == "3" && len(extracted.Labels) == 0, "extract", err); err != nil {
		return err
	}
	wrong := types.UID("another")
	err = maps.Delete(ctx, "one", metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &wrong}})
	if err := expect(apierrors.IsConflict(err), fmt.Sprintf("delete another: %v", err), nil); err != nil {
		return err
	}
	if err := maps.Delete(ctx, "one", metav1.DeleteOptions{}); err != nil {
		return err
	}
	_, err = maps.Get(ctx, "one", metav1.GetOptions{})
	if err := expect(apierrors.IsNotFound(err), fmt.Sprintf("get what is gone: %v", err), nil); err != nil {
		return err
	}
	for event := range watcher.ResultChan() {
		if event.Type == watch.Deleted {
			return nil
		}
		if event.Type != watch.Modified {
			return fmt.Errorf("watched %v", event)
		}
	}
	return fmt.Errorf("the watch ended before the deletion")
}

// pages lists in chunks, a snapshot that later writes do not change, and deletes by selector.
func pages(ctx context.Context, client kubernetes.Interface, namespace string) error {
	secrets := client.CoreV1().Secrets(namespace)
	for range 7 {
		made, err := secrets.Create(ctx, &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{GenerateName: "page-", Labels: map[string]string{"part": "pages"}},
		}, metav1.CreateOptions{})
		if err := expect(err == nil && len(made.Name) > len("page-"), "generateName", err); err != nil {
			return err
		}
	}
	options := metav1.ListOptions{LabelSelector: "part=pages", Limit: 3}
	seen := map[string]bool{}
	for page := 0; ; page++ {
		list, err := secrets.List(ctx, options)
		if err != nil {
			return err
		}
		for _, one := range list.Items {
			seen[one.Name] = true
		}
		if page == 0 {
			late := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "page-zzzzzz", Labels: map[string]string{"part": "pages"}}}
			if _, err := secrets.Create(ctx, late, metav1.CreateOptions{}); err != nil {
				return err
			}
		}
		if options.Continue = list.Continue; options.Continue == "" {
			break
		}
	}
	if err := expect(len(seen) == 7 && !seen["page-zzzzzz"], fmt.Sprintf("pages: %v", seen), nil); err != nil {
		return err
	}
	err := secrets.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "part=pages"})
	if err != nil {
		return err
	}
	left, err := secrets.List(ctx, metav1.ListOptions{LabelSelector: "part=pages"})
	return expect(err == nil && len(left.Items) == 0, "deletecollection", err)
}

func deployment(ctx context.Context, client kubernetes.Interface, namespace string) error {
	deployments := client.AppsV1().Deployments(namespace)
	labels := map[string]string{"app": "typed"}
	wanted := appsapply.Deployment("typed", namespace).WithSpec(appsapply.DeploymentSpec().
		WithReplicas(0).
		WithSelector(metaapply.LabelSelector().WithMatchLabels(labels)).
		WithTemplate(coreapply.PodTemplateSpec().WithLabels(labels).WithSpec(coreapply.PodSpec().
			WithContainers(coreapply.Container().WithName("main").WithImage("none")))))
	options := metav1.ApplyOptions{FieldManager: "applier", Force: true}
	made, err := deployments.Apply(ctx, wanted, options)
	if err := expect(err == nil && made.Spec.Strategy.Type == appsv1.RollingUpdateDeploymentStrategyType, "defaults", err); err != nil {
		return err
	}
	scale, err := deployments.GetScale(ctx, "typed", metav1.GetOptions{})
	if err := expect(err == nil && scale.Spec.Replicas == 0 && scale.Status.Selector == "app=typed", "scale", err); err != nil {
		return err
	}
	// The controller may have written meanwhile.
	scale.Spec.Replicas, scale.ResourceVersion = 1, ""
	if _, err = deployments.UpdateScale(ctx, "typed", scale, metav1.UpdateOptions{}); err != nil {
		return err
	}
	status := appsapply.Deployment("typed", namespace).WithStatus(appsapply.DeploymentStatus().WithConditions(
		appsapply.DeploymentCondition().WithType("Judged").WithStatus(corev1.ConditionTrue)))
	judged, err := deployments.ApplyStatus(ctx, status, options)
	if err := expect(err == nil && len(judged.Status.Conditions) > 0, "applied status", err); err != nil {
		return err
	}
	dry, err := deployments.Patch(ctx, "typed", types.StrategicMergePatchType, []byte(`{"spec": {"replicas": 9}}`),
		metav1.PatchOptions{DryRun: []string{metav1.DryRunAll}})
	if err := expect(err == nil && *dry.Spec.Replicas == 9, "dry run", err); err != nil {
		return err
	}
	real, err := deployments.Get(ctx, "typed", metav1.GetOptions{})
	if err := expect(err == nil && *real.Spec.Replicas == 1, "after a dry run", err); err != nil {
		return err
	}
	foreground := metav1.DeletePropagationForeground
	return deployments.Delete(ctx, "typed", metav1.DeleteOptions{PropagationPolicy: &foreground})
}
