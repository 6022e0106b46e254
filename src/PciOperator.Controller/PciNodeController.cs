using System.Text.Json;
using Microsoft.Extensions.Logging;
using PciOperator.Api;
using PciOperator.Core;
using PciOperator.Kubernetes;
using PciOperator.Kubernetes.Models;
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
    IKubernetesClient client, ControllerCaches caches, ClusterView view, PciNodeWriter writer, EventRecorder events, TimeProvider time, ILogger log) : IEntityController<PciNode>
{
    /// <summary>The field manager that owns the Node's condition.</summary>
    private const string FieldManager = "pcioperator-controller";

    /// <inheritdoc/>
    public async Task<ReconciliationResult> ReconcileAsync(PciNode entity, CancellationToken ct)
    {
        var name = entity.Metadata.Name!;
        var node = caches.Nodes.Get(name) ?? await client.GetAsync<V1Node>(name, ct: ct);
        if (node is null)
        {
            await RemoveAsync(entity, ct);
            return ReconciliationResult.Done;
        }

        if (entity.Metadata.DeletionTimestamp is not null)
            return await DeleteWhenFreeAsync(entity, ct);
        await WithdrawOrphansAsync(entity, ct);
        await EndFreeingAsync(entity, ct);
        await WriteNodeConditionAsync(node, entity, ct);
        return ReconciliationResult.Done;
    }

    /// <inheritdoc/>
    public Task DeletedAsync(PciNode entity, CancellationToken ct) => Task.CompletedTask;

    /// <summary>The Node is gone, and with it everything that was given away there.</summary>
    private async Task RemoveAsync(PciNode entity, CancellationToken ct)
    {
        if (entity.Metadata.Finalizers?.Contains(PciOperatorApi.NodeFinalizer) == true)
        {
            entity = await client.PatchAsync<PciNode>(entity.Metadata.Name!, null, MetadataPatch.RemoveFinalizer(entity.Metadata, PciOperatorApi.NodeFinalizer), ct: ct);
        }

        if (entity.Metadata.DeletionTimestamp is null)
            await client.DeleteAsync<PciNode>(entity.Metadata.Name!, options: new DeleteOptions { Uid = entity.Metadata.Uid }, ct: ct);
        log.LogInformation("node {Node} is gone: its PciNode is removed", entity.Metadata.Name);
    }

    /// <summary>Somebody deleted the PciNode of a Node that is there: it goes when nothing of it is given away, and is made again.</summary>
    private async Task<ReconciliationResult> DeleteWhenFreeAsync(PciNode entity, CancellationToken ct)
    {
        if (entity.Spec.Assignments is { Count: > 0 } || (entity.Status?.Assignments ?? []).Any(a => a.State != AssignmentState.Rejected))
        {
            events.Warning(entity, "StillInUse", "it is deleted and stays until the claims that have devices of this node are gone", "Delete");
            return ReconciliationResult.Done;
        }

        if (entity.Metadata.Finalizers?.Contains(PciOperatorApi.NodeFinalizer) == true)
            await client.PatchAsync<PciNode>(entity.Metadata.Name!, null, MetadataPatch.RemoveFinalizer(entity.Metadata, PciOperatorApi.NodeFinalizer), ct: ct);
        return ReconciliationResult.Done;
    }

    /// <summary>An assignment whose claim does not exist (a controller with an old view wrote it, or somebody removed the finalizer by hand).</summary>
    private async Task WithdrawOrphansAsync(PciNode entity, CancellationToken ct)
    {
        foreach (var assignment in entity.Spec.Assignments ?? [])
        {
            if (caches.Claims.ByIndex(ControllerCaches.ByUid, assignment.ClaimUid).Count > 0)
                continue;
            if (await client.GetAsync<PassthroughClaim>(assignment.ClaimName, assignment.ClaimNamespace, ct) is { } live && live.Metadata.Uid == assignment.ClaimUid)
                continue;

            var name = entity.Metadata.Name!;
            log.LogWarning("node {Node}: claim {Claim} does not exist any more; its devices are withdrawn", name, $"{assignment.ClaimNamespace}/{assignment.ClaimName}");
            var written = await writer.WithdrawAsync(name, assignment.ClaimUid, ct);
            view.SetPciNode(name, written);
        }
    }

    /// <summary>Removes the annotation by which an administrator frees used-once devices, when none of those that it names is withheld for that any more.</summary>
    private async Task EndFreeingAsync(PciNode entity, CancellationToken ct)
    {
        if (entity.Metadata.Annotations?.TryGetValue(PciOperatorApi.FreeAnnotation, out var text) != true || entity.Status?.Devices is not { } devices)
            return;
        var named = PciOperatorApi.FreedBy(text).ToHashSet();
        if (devices.Any(d => d.WithheldBy == PciOperatorApi.UsedOnce && named.Contains(PciAddress.Parse(d.Address))))
            return;   // its agent has still to do it
        try
        {
            caches.PciNodes.Observe(await client.PatchAsync<PciNode>(entity.Metadata.Name!, null, MetadataPatch.WithoutAnnotation(entity.Metadata, PciOperatorApi.FreeAnnotation, text!), ct: ct));
        }
        catch (KubernetesException refused) when (refused.IsConflict || refused.IsNotFound || refused.StatusCode == System.Net.HttpStatusCode.UnprocessableEntity)
        {
            // Somebody has written it anew, or removed it: the cache is about to hear of it.
        }
    }

    /// <summary><c>PciPassthroughReady</c> on the core Node, whose message lists the pools: so `kubectl describe node` shows them.</summary>
    private async Task WriteNodeConditionAsync(V1Node node, PciNode entity, CancellationToken ct)
    {
        var (ready, reason, message) = NodePools.Describe(entity, view.IsAgentReady(entity.Metadata.Name!));
        var known = node.Status?.Conditions?.FirstOrDefault(c => c.Type == PciOperatorApi.NodeConditionType);
        var status = ready ? "True" : "False";
        if (known is not null && known.Status == status && known.Reason == reason && known.Message == message)
            return;
        if (known is null && entity.Spec.Rules is not { Count: > 0 })
            return;   // nothing to say on nodes that no PciDeviceSpec is for

        var since = known is { LastTransitionTime: { } then } && known.Status == status ? then : time.GetUtcNow();
        var condition = new V1NodeCondition { Type = PciOperatorApi.NodeConditionType, Status = status, Reason = reason, Message = message, LastTransitionTime = since };
        var applied = new V1Node
        {
            Metadata = new V1ObjectMeta { Name = node.Metadata.Name },
            Status = new V1NodeStatus { Conditions = [condition] },
        };
        var patch = KubernetesPatch.Apply(JsonSerializer.SerializeToUtf8Bytes(applied, client.JsonOptions.GetTypeInfo(typeof(V1Node))), FieldManager, force: true);
        try
        {
            caches.Nodes.Observe(await client.PatchAsync<V1Node>(node.Metadata.Name!, null, patch, "status", ct));
        }
        catch (KubernetesException gone) when (gone.IsNotFound)
        {
            // The Node went meanwhile; the cache is about to hear of it.
        }
    }
}
