using System.Collections.Concurrent;
using System.Text.Json;
using k8s.Models;
using Microsoft.Extensions.Logging;
using PciOperator.Api;
using PciOperator.Core;
using PciOperator.Kubernetes;
using PciOperator.Kubernetes.Schema;

namespace PciOperator.Controller;

/// <summary>
/// Keeps PciNodes true: goes when its Node is gone, stays while devices of it are given away, gives up assignments whose
/// claim no longer exists, and says on the Node what it has.
/// </summary>
[EntityRbac("", "nodes", "get")]
[EntityRbac("", "nodes/status", "patch")]
[EntityRbac(PciOperatorApi.Group, "pcinodes", "patch,delete")]
[EntityRbac(PciOperatorApi.Group, "passthroughclaims", "get")]
internal sealed class PciNodeController(
    IEntityClient client,
    ControllerCaches caches,
    ClusterView view,
    PciNodeWriter writer,
    Deliveries deliveries,
    EventRecorder events,
    TimeProvider time,
    ILogger log
) : IEntityController<PciNode>
{
    /// <summary>The field manager that owns the Node's condition.</summary>
    private const string FieldManager = "pcioperator-controller";

    // How long a Node keeps what its condition says when only the pools' numbers in it would change: in a burst they change with every claim.
    private static readonly TimeSpan NumbersPeriod = TimeSpan.FromSeconds(10);

    // When a Node's condition was written last.
    private readonly ConcurrentDictionary<string, long> _saidAt = new();

    /// <inheritdoc/>
    public async Task<ReconciliationResult> ReconcileAsync(PciNode entity, CancellationToken ct)
    {
        string name = entity.Metadata.Name!;
        V1Node? node = caches.Nodes.Get(name) ?? await client.GetAsync<V1Node>(name, ct: ct);
        if (Reports.CountUnreadable(entity) is > 0 and var unreadable)
        {
            log.LogWarning(
                "node {Node}: what its agent reports with an address or ids that are none is left out; devices: {Count}",
                name,
                unreadable
            );
        }

        entity = Reports.Readable(entity);
        if (node is null)
        {
            _saidAt.TryRemove(name, out _);
            await RemoveAsync(entity, ct);
            return ReconciliationResult.Done;
        }

        if (entity.Metadata.DeletionTimestamp is not null)
            return NodeStanding.IsOfAnother(entity, node) ? await GiveWayAsync(entity, ct) : await DeleteWhenFreeAsync(node, entity, ct);
        await SettleAsync(entity, ct);
        await WithdrawOrphansAsync(entity, ct);
        await EndFreeingAsync(entity, ct);
        return await WriteNodeConditionAsync(node, entity, ct) is { } later ? ReconciliationResult.After(later) : ReconciliationResult.Done;
    }

    /// <inheritdoc/>
    public Task DeletedAsync(PciNode entity, CancellationToken ct) => Task.CompletedTask;

    /// <summary>The Node is gone, and with it everything that was given away there.</summary>
    private async Task RemoveAsync(PciNode entity, CancellationToken ct)
    {
        if (entity.Metadata.Finalizers?.Contains(PciOperatorApi.NodeFinalizer) == true)
        {
            entity = await client.PatchAsync<PciNode>(
                entity.Metadata.Name!,
                null,
                MetadataPatch.RemoveFinalizer(entity.Metadata, PciOperatorApi.NodeFinalizer),
                ct: ct
            );
        }

        if (entity.Metadata.DeletionTimestamp is null)
            await client.DeleteAsync<PciNode>(entity.Metadata.Name!, options: new DeleteOptions { Uid = entity.Metadata.Uid }, ct: ct);
        log.LogInformation("node {Node} is gone: its PciNode is removed", entity.Metadata.Name);
    }

    /// <summary>
    /// The garbage collector deleted it together with a Node that has been registered again since. It goes at once, whatever is given away:
    /// its successor is made for the Node that there is, and asks the agent what it holds.
    /// </summary>
    private async Task<ReconciliationResult> GiveWayAsync(PciNode entity, CancellationToken ct)
    {
        if (entity.Metadata.Finalizers?.Contains(PciOperatorApi.NodeFinalizer) == true)
        {
            await client.PatchAsync<PciNode>(
                entity.Metadata.Name!,
                null,
                MetadataPatch.RemoveFinalizer(entity.Metadata, PciOperatorApi.NodeFinalizer),
                ct: ct
            );
        }

        log.LogInformation("node {Node} was registered again: the PciNode of the Node that is gone gives way", entity.Metadata.Name);
        return ReconciliationResult.Done;
    }

    /// <summary>
    /// Gives a PciNode that was made anew the assignments that its agent still holds, and those that its claims name and that could be made
    /// now.
    /// </summary>
    private async Task SettleAsync(PciNode entity, CancellationToken ct)
    {
        if (!IsAnswered(entity))
            return;
        string name = entity.Metadata.Name!;
        PciNode? written = await writer.ChangeAsync(name, node => IsAnswered(node) ? Settled(Reports.Readable(node)) : null, ct);
        view.SetPciNode(name, written);
        log.LogInformation(
            "node {Node}: its agent has said what it holds; assignments made again: {Assignments}",
            name,
            written?.Spec.Assignments?.Count ?? 0
        );

        static bool IsAnswered(PciNode node) =>
            node.Spec.Settling == true
            && node.Status is { } status
            && status.ObservedGeneration >= node.Metadata.Generation
            && status.Conditions.IsTrue(Conditions.InventoryReady);
    }

    private PciNodeSpec Settled(PciNode node)
    {
        var assignments = (node.Spec.Assignments ?? []).ToList();
        var held = (node.Status!.Assignments ?? []).Where(a => a.State != HoldingState.Rejected).Select(a => a.ClaimUid).ToHashSet();
        // A claim's status names its node, and only the controller writes that; what an agent says of other claims is not asked.
        IOrderedEnumerable<PassthroughClaim> claims = caches
            .Claims.ByIndex(ControllerCaches.ByNode, node.Metadata.Name!)
            .Where(c =>
                c.Metadata.DeletionTimestamp is null
                && assignments.All(a => a.ClaimUid != c.Metadata.Uid)
                && caches
                    .PciNodes.ByIndex(ControllerCaches.ByAssignedClaim, c.Metadata.Uid!)
                    .All(n => n.Metadata.Name == node.Metadata.Name)
            )
            .OrderByDescending(c => held.Contains(c.Metadata.Uid!))
            .ThenBy(c => c.Metadata.CreationTimestamp)
            .ThenBy(c => c.Metadata.Uid, StringComparer.Ordinal);
        foreach (PassthroughClaim claim in claims)
        {
            if (
                AssignmentBuilder.Again(
                    claim,
                    node with
                    {
                        Spec = node.Spec with { Assignments = assignments },
                    },
                    view.Alias,
                    time.GetUtcNow()
                ) is
                { } again
            )
            {
                assignments.Add(deliveries.Complete(again, claim));
            }
            else
            {
                log.LogWarning(
                    "node {Node}: claim {Claim} says that it has devices here that the agent does not hold and that it could not get now",
                    node.Metadata.Name,
                    EntityKey.Of(claim)
                );
            }
        }

        return node.Spec with
        {
            Assignments = assignments.Count > 0 ? assignments : null,
            Settling = null,
        };
    }

    /// <summary>
    /// Somebody deleted the PciNode of a Node that is there: it goes when nothing of it is given away, and is made again.
    /// </summary>
    private async Task<ReconciliationResult> DeleteWhenFreeAsync(V1Node node, PciNode entity, CancellationToken ct)
    {
        if (entity.Spec.Assignments is { Count: > 0 } || (entity.Status?.Assignments ?? []).Any(a => a.State != HoldingState.Rejected))
        {
            events.Warning(
                entity,
                "StillInUse",
                "it is deleted and stays until the claims that have devices of this node are gone",
                "Delete"
            );
            return ReconciliationResult.Done;
        }

        await RemoveNodeConditionAsync(node, ct);
        if (entity.Metadata.Finalizers?.Contains(PciOperatorApi.NodeFinalizer) == true)
        {
            await client.PatchAsync<PciNode>(
                entity.Metadata.Name!,
                null,
                MetadataPatch.RemoveFinalizer(entity.Metadata, PciOperatorApi.NodeFinalizer),
                ct: ct
            );
        }

        return ReconciliationResult.Done;
    }

    /// <summary>
    /// An assignment whose claim does not exist (a controller with an old view wrote it, or somebody removed the finalizer by hand).
    /// </summary>
    private async Task WithdrawOrphansAsync(PciNode entity, CancellationToken ct)
    {
        foreach (PciAssignment assignment in entity.Spec.Assignments ?? [])
        {
            if (caches.Claims.ByIndex(ControllerCaches.ByUid, assignment.ClaimUid).Count > 0)
                continue;
            if (
                await client.GetAsync<PassthroughClaim>(assignment.ClaimName, assignment.ClaimNamespace, ct) is { } live
                && live.Metadata.Uid == assignment.ClaimUid
            )
            {
                continue;
            }

            string name = entity.Metadata.Name!;
            log.LogWarning(
                "node {Node}: claim {Claim} does not exist any more; its devices are withdrawn",
                name,
                $"{assignment.ClaimNamespace}/{assignment.ClaimName}"
            );
            PciNode? written = await writer.WithdrawAsync(name, assignment.ClaimUid, ct);
            view.SetPciNode(name, written);
        }
    }

    /// <summary>
    /// Removes the annotation by which an administrator frees used-once devices, when none of those that it names is withheld for that any
    /// more.
    /// </summary>
    private async Task EndFreeingAsync(PciNode entity, CancellationToken ct)
    {
        if (
            entity.Metadata.Annotations?.TryGetValue(PciOperatorApi.FreeAnnotation, out string? text) != true
            || entity.Status?.Devices is not { } devices
        )
        {
            return;
        }

        var named = PciOperatorApi.FreedBy(text).ToHashSet();
        if (devices.Any(d => d.WithheldBy == WithheldWords.UsedOnce && named.Contains(PciAddress.Parse(d.Address))))
            return; // its agent has still to do it
        try
        {
            caches.PciNodes.Observe(
                await client.PatchAsync<PciNode>(
                    entity.Metadata.Name!,
                    null,
                    MetadataPatch.WithoutAnnotation(entity.Metadata, PciOperatorApi.FreeAnnotation, text!),
                    ct: ct
                )
            );
        }
        catch (ApiException refused)
            when (refused.IsConflict || refused.IsNotFound || refused.StatusCode == System.Net.HttpStatusCode.UnprocessableEntity)
        {
            // Somebody has written it anew, or removed it: the cache is about to hear of it.
        }
    }

    /// <summary>
    /// <c>PciPassthroughReady</c> on the core Node, whose message lists the pools: so `kubectl describe node` shows them.
    /// </summary>
    /// <returns>When it is to be said; null: it is said.</returns>
    private async Task<TimeSpan?> WriteNodeConditionAsync(V1Node node, PciNode entity, CancellationToken ct)
    {
        if (entity.Spec is { Rules: not { Count: > 0 }, Assignments: not { Count: > 0 } })
        {
            await RemoveNodeConditionAsync(node, ct);
            return null; // nothing to say on nodes that no PciDeviceSpec is for
        }

        (bool ready, string reason, string message) = NodePools.Describe(entity, view.IsAgentReady(entity.Metadata.Name!));
        V1NodeCondition? known = node.Status?.Conditions?.FirstOrDefault(c => c.Type == PciOperatorApi.NodeConditionType);
        string status = ready ? "True" : "False";
        if (known is not null && known.Status == status && known.Reason == reason && known.Message == message)
            return null;
        string name = node.Metadata.Name!;
        bool onlyNumbers = known is not null && known.Status == status && known.Reason == reason;
        if (
            onlyNumbers
            && _saidAt.TryGetValue(name, out long said)
            && NumbersPeriod - time.GetElapsedTime(said) is var left
            && left > TimeSpan.Zero
        )
        {
            return left;
        }

        _saidAt[name] = time.GetTimestamp();
        DateTime now = time.GetUtcNow().UtcDateTime;
        DateTime since = known is { LastTransitionTime: { } then } && known.Status == status ? then : now;
        var condition = new V1NodeCondition
        {
            Type = PciOperatorApi.NodeConditionType,
            Status = status,
            Reason = reason,
            Message = message,
            LastHeartbeatTime = now,
            LastTransitionTime = since,
        };
        var applied = new V1Node
        {
            ApiVersion = V1Node.KubeApiVersion,
            Kind = V1Node.KubeKind,
            Metadata = new V1ObjectMeta { Name = node.Metadata.Name },
            Status = new V1NodeStatus { Conditions = [condition] },
        };
        var patch = EntityPatch.Apply(
            JsonSerializer.SerializeToUtf8Bytes(applied, client.JsonOptions.GetTypeInfo(typeof(V1Node))),
            FieldManager,
            force: true
        );
        try
        {
            caches.Nodes.Observe(await client.PatchAsync<V1Node>(node.Metadata.Name!, null, patch, "status", ct));
        }
        catch (ApiException gone) when (gone.IsNotFound)
        {
            // The Node went meanwhile; the cache is about to hear of it.
        }

        return null;
    }

    /// <summary>
    /// Takes the condition from a Node: there is nothing to say of it any more, and after an uninstall nobody else would.
    /// </summary>
    private async Task RemoveNodeConditionAsync(V1Node node, CancellationToken ct)
    {
        if (node.Status?.Conditions?.Any(c => c.Type == PciOperatorApi.NodeConditionType) != true)
            return;
        var patch = EntityPatch.Strategic(
            $$$"""{"status":{"conditions":[{"type":"{{{PciOperatorApi.NodeConditionType}}}","$patch":"delete"}]}}"""
        );
        try
        {
            caches.Nodes.Observe(await client.PatchAsync<V1Node>(node.Metadata.Name!, null, patch, "status", ct));
        }
        catch (ApiException gone) when (gone.IsNotFound)
        {
            // The Node went meanwhile, and the condition with it.
        }
    }
}
