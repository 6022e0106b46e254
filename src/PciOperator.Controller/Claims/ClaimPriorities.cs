using PciOperator.Api;
using PciOperator.Kubernetes.Schema;

namespace PciOperator.Controller;

/// <summary>The priorities of claims, by Kubernetes' own PriorityClasses.</summary>
[EntityRbac("scheduling.k8s.io", "priorityclasses", "list,watch")]
internal sealed class ClaimPriorities(ControllerCaches caches)
{
    /// <summary>The reason of a claim that names a class which does not exist.</summary>
    public const string NotFound = "PriorityClassNotFound";

    /// <summary>
    /// A claim's priority; null: there is no class of the name that it gives. Without a name: the pod's, for which a template's claim was made;
    /// else that of the class that is everybody's default, or 0, as a pod's is.
    /// </summary>
    public int? Of(PassthroughClaim claim)
    {
        if (claim.Spec.PriorityClassName is { Length: > 0 } name)
            return caches.PriorityClasses.Get(name)?.Value;
        return PodsOf(claim) ?? caches.PriorityClasses.List().Where(c => c.GlobalDefault == true).Select(c => (int?)c.Value).Min() ?? 0;
    }

    private int? PodsOf(PassthroughClaim claim) =>
        TemplateClaim.OwnerOf(claim) is { } owner && caches.WaitingPods is { } pods
            ? pods.ByIndex(ControllerCaches.ByResourceClaim, $"{claim.Metadata.NamespaceProperty}/{owner.Name}")
                .Select(p => p.Spec?.Priority)
                .Max()
            : null;
}
