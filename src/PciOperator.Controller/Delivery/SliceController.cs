using k8s.Models;
using Microsoft.Extensions.Logging;
using PciOperator.Api;
using PciOperator.Kubernetes;

namespace PciOperator.Controller;

/// <summary>
/// Sees to it that every ResourceSlice of ours is of a claim that exists: one that somebody changed is put right with its claim, one whose
/// claim is gone is deleted.
/// </summary>
/// <param name="client">The server.</param>
/// <param name="caches">What is known of claims.</param>
/// <param name="look">Has a claim looked at.</param>
/// <param name="log">Log.</param>
internal sealed class SliceController(IEntityClient client, ControllerCaches caches, Action<EntityKey> look, ILogger log)
    : IEntityController<V1ResourceSlice>
{
    /// <inheritdoc/>
    public async Task<ReconciliationResult> ReconcileAsync(V1ResourceSlice entity, CancellationToken ct)
    {
        if (entity.Metadata.DeletionTimestamp is not null)
            return ReconciliationResult.Done;
        if (ResourceObjects.ClaimOf(entity) is not { } of || entity.Metadata.Name != ResourceObjects.SliceName(of.Uid))
        {
            await DeleteAsync(entity, "it is no claim's", ct);
            return ReconciliationResult.Done;
        }

        if (caches.Claims.ByIndex(ControllerCaches.ByUid, of.Uid).FirstOrDefault() is { } claim)
        {
            look(EntityKey.Of(claim));
            return ReconciliationResult.Done;
        }

        // The cache may not have the claim yet.
        PassthroughClaim? live =
            of.Name.Length == 0 || of.Namespace.Length == 0 ? null : await client.GetAsync<PassthroughClaim>(of.Name, of.Namespace, ct);
        if (live?.Metadata.Uid != of.Uid)
            await DeleteAsync(entity, $"its claim {of.Namespace}/{of.Name} is gone", ct);
        return ReconciliationResult.Done;
    }

    /// <inheritdoc/>
    public Task DeletedAsync(V1ResourceSlice entity, CancellationToken ct)
    {
        if (
            ResourceObjects.ClaimOf(entity) is { } of
            && caches.Claims.ByIndex(ControllerCaches.ByUid, of.Uid).FirstOrDefault() is { } claim
        )
        {
            look(EntityKey.Of(claim));
        }

        return Task.CompletedTask;
    }

    private async Task DeleteAsync(V1ResourceSlice slice, string why, CancellationToken ct)
    {
        log.LogInformation("ResourceSlice {Name} is deleted: {Why}", slice.Metadata.Name, why);
        await client.DeleteAsync<V1ResourceSlice>(slice.Metadata.Name!, options: new DeleteOptions { Uid = slice.Metadata.Uid }, ct: ct);
    }
}
