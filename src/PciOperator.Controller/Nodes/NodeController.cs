using k8s.Models;
using Microsoft.Extensions.Logging;
using PciOperator.Api;
using PciOperator.Kubernetes;
using PciOperator.Kubernetes.Schema;

namespace PciOperator.Controller;

/// <summary>Gives every Node its PciNode, with the PciDeviceSpecs that apply to it as rules.</summary>
[EntityRbac("", "nodes", "get,list,watch")]
[EntityRbac(PciOperatorApi.Group, "pcinodes", "get,list,watch,create,patch")]
[EntityRbac(PciOperatorApi.Group, "pcidevicespecs", "list,watch")]
internal sealed class NodeController(
    IEntityClient client,
    ControllerCaches caches,
    ClusterView view,
    PciNodeWriter writer,
    LeftOutSpecs leftOut,
    ClusterOwner owner,
    Installation installation,
    ILogger log
) : IEntityController<V1Node>
{
    // Until then either the mark that says so is gone, or this controller has ended.
    private static readonly TimeSpan UntilItIsKnown = TimeSpan.FromSeconds(1);

    /// <inheritdoc/>
    public async Task<ReconciliationResult> ReconcileAsync(V1Node entity, CancellationToken ct)
    {
        if (entity.Metadata.DeletionTimestamp is not null)
            return ReconciliationResult.Done;

        string name = entity.Metadata.Name!;
        (List<PciNodeRule>? rules, List<string>? without) = NodeShares.Fit(Rules(entity));
        if (leftOut.Set(name, without) && without.Count > 0)
        {
            log.LogWarning(
                "node {Node}: there is no room for {Count} PciDeviceSpecs of the lowest priority: {Specs}",
                name,
                without.Count,
                string.Join(", ", without.Take(8))
            );
        }

        PciNode? current = caches.PciNodes.Get(name);
        if (current is null)
        {
            await CreateAsync(entity, rules, ct);
            return ReconciliationResult.Done;
        }

        if (current.Metadata.DeletionTimestamp is null && NodeStanding.IsOfAnother(current, entity))
            await CorrectOwnerAsync(current, entity, ct);
        if (!installation.HasMarked(current))
        {
            if (!owner.IsOurs)
                return ReconciliationResult.After(UntilItIsKnown);
            await MarkAsync(current, ct);
        }

        if (current.Metadata.DeletionTimestamp is not null || PciNodeRules.Same(current.Spec.Rules, rules))
            return ReconciliationResult.Done;
        PciNode? written = await writer.ChangeAsync(
            name,
            node => PciNodeRules.Same(node.Spec.Rules, rules) ? null : node.Spec with { Rules = rules },
            ct
        );
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
        string name = node.Metadata.Name!;
        // Where claims say that they have devices the node's agent is asked first (PciNodeController): what a claim says is no reason to
        // bind anything.
        bool settling = caches.Claims.ByIndex(ControllerCaches.ByNode, name).Any(c => c.Metadata.DeletionTimestamp is null);
        var made = new PciNode
        {
            Metadata = new V1ObjectMeta
            {
                Name = name,
                Finalizers = [PciOperatorApi.NodeFinalizer],
                OwnerReferences = [Owner(node)],
                Annotations = installation.Marks,
            },
            Spec = new PciNodeSpec { Rules = rules, Settling = settling ? true : null },
        };

        try
        {
            caches.PciNodes.Observe(await client.CreateAsync(made, ct));
            log.LogInformation("node {Node}: PciNode made with {Rules} rules", name, rules.Count);
        }
        catch (ApiException there) when (there.IsAlreadyExists)
        {
            // Its Added event brings the Node back here.
        }
    }

    /// <summary>
    /// A Node that was deleted and registered again is another: the garbage collector would delete the PciNode of the one that is gone.
    /// </summary>
    private async Task CorrectOwnerAsync(PciNode current, V1Node node, CancellationToken ct)
    {
        IReadOnlyList<V1OwnerReference> owners = [.. (current.Metadata.OwnerReferences ?? []).Where(o => o.Kind != "Node"), Owner(node)];
        caches.PciNodes.Observe(
            await client.PatchAsync<PciNode>(current.Metadata.Name!, null, MetadataPatch.Owners(current.Metadata, owners), ct: ct)
        );
        log.LogInformation("node {Node} was registered again: its PciNode belongs to the new Node", current.Metadata.Name);
    }

    /// <summary>Says whose a PciNode is, on one that an earlier version made or that was handed over.</summary>
    private async Task MarkAsync(PciNode seen, CancellationToken ct)
    {
        PciNode current = caches.PciNodes.Get(seen.Metadata.Name!) ?? seen;
        caches.PciNodes.Observe(
            await client.PatchAsync<PciNode>(
                current.Metadata.Name!,
                null,
                MetadataPatch.Annotations(current.Metadata, installation.Marks),
                ct: ct
            )
        );
        log.LogInformation(
            "node {Node}: its PciNode is marked as this installation's, {Installation}",
            current.Metadata.Name,
            installation.Controller
        );
    }

    private static V1OwnerReference Owner(V1Node node) =>
        new()
        {
            ApiVersion = "v1",
            Kind = "Node",
            Name = node.Metadata.Name!,
            Uid = node.Metadata.Uid ?? "",
        };

    private List<PciNodeRule> Rules(V1Node node) =>
        [
            .. caches
                .Specs.List()
                .Where(s =>
                    s.Metadata.DeletionTimestamp is null
                    && (s.Spec.NodeSelector is not { } selector || Labels.Match(selector, node.Metadata.Labels))
                )
                .OrderByDescending(s => s.Spec.Priority)
                .ThenBy(s => s.Metadata.Name, StringComparer.Ordinal)
                .Select(s => PciNodeRules.Of(s, node.Metadata.Name!)),
        ];
}
