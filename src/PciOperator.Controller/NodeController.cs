using Microsoft.Extensions.Logging;
using PciOperator.Api;
using PciOperator.Kubernetes;
using PciOperator.Kubernetes.Models;
using PciOperator.Kubernetes.Schema;

namespace PciOperator.Controller;

/// <summary>Gives every Node its PciNode, with the PciDeviceSpecs that apply to it as rules.</summary>
[EntityRbac("", "nodes", "get,list,watch")]
[EntityRbac(PciOperatorApi.Group, "pcinodes", "get,list,watch,create,patch")]
[EntityRbac(PciOperatorApi.Group, "pcidevicespecs", "get,list,watch")]
internal sealed class NodeController(IKubernetesClient client, ControllerCaches caches, ClusterView view, PciNodeWriter writer, LeftOutSpecs leftOut, ILogger log) : IEntityController<V1Node>
{
    /// <inheritdoc/>
    public async Task<ReconciliationResult> ReconcileAsync(V1Node entity, CancellationToken ct)
    {
        if (entity.Metadata.DeletionTimestamp is not null)
            return ReconciliationResult.Done;

        var name = entity.Metadata.Name!;
        var (rules, without) = NodeShares.Fit(Rules(entity));
        if (leftOut.Set(name, without) && without.Count > 0)
            log.LogWarning("node {Node}: there is no room for {Count} PciDeviceSpecs of the lowest priority: {Specs}", name, without.Count, string.Join(", ", without.Take(8)));
        var current = caches.PciNodes.Get(name);
        if (current is null)
        {
            await CreateAsync(entity, rules, ct);
            return ReconciliationResult.Done;
        }

        if (current.Metadata.DeletionTimestamp is not null || PciNodeRules.Same(current.Spec.Rules, rules))
            return ReconciliationResult.Done;
        var written = await writer.ChangeAsync(name, node => PciNodeRules.Same(node.Spec.Rules, rules) ? null : node.Spec with { Rules = rules }, ct);
        view.SetPciNode(name, written);
        return ReconciliationResult.Done;
    }

    /// <inheritdoc/>
    public Task DeletedAsync(V1Node entity, CancellationToken ct)
    {
        leftOut.Set(entity.Metadata.Name!, []);
        return Task.CompletedTask;
    }

    private async Task CreateAsync(V1Node node, IReadOnlyList<PciNodeRule> rules, CancellationToken ct)
    {
        var name = node.Metadata.Name!;
        // A PciNode that somebody deleted by force comes back with what the claims say they have there: nobody's device is taken from under a VM.
        var claims = caches.Claims.ByIndex(ControllerCaches.ByNode, name)
            .Where(c => c.Metadata.DeletionTimestamp is null && c.Status is { Phase: ClaimPhase.Claimed or ClaimPhase.Allocated, Devices.Count: > 0 });
        var made = new PciNode
        {
            Metadata = new V1ObjectMeta
            {
                Name = name,
                Finalizers = [PciOperatorApi.NodeFinalizer],
                OwnerReferences = [new V1OwnerReference { ApiVersion = "v1", Kind = "Node", Name = name, Uid = node.Metadata.Uid ?? "" }],
            },
            Spec = new PciNodeSpec { Rules = rules, Assignments = [.. claims.Select(Assignments.FromStatus)] },
        };

        try
        {
            caches.PciNodes.Observe(await client.CreateAsync(made, ct));
            log.LogInformation("node {Node}: PciNode made with {Rules} rules", name, rules.Count);
        }
        catch (KubernetesException there) when (there.IsAlreadyExists)
        {
            // Its Added event brings the Node back here.
        }
    }

    private List<PciNodeRule> Rules(V1Node node) =>
    [
        .. caches.Specs.List()
            .Where(s => s.Metadata.DeletionTimestamp is null && (s.Spec.NodeSelector is not { } selector || Labels.Match(selector, node.Metadata.Labels)))
            .OrderByDescending(s => s.Spec.Priority).ThenBy(s => s.Metadata.Name, StringComparer.Ordinal)
            .Select(s => PciNodeRules.Of(s, node.Metadata.Name!)),
    ];
}
