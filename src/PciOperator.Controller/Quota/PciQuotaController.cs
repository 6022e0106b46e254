using PciOperator.Api;
using PciOperator.Kubernetes;

namespace PciOperator.Controller;

/// <summary>Says on each PciQuota what is used of it.</summary>
internal sealed class PciQuotaController(QuotaLedger ledger) : IEntityController<PciQuota>
{
    /// <inheritdoc/>
    public async Task<ReconciliationResult> ReconcileAsync(PciQuota entity, CancellationToken ct) =>
        await ledger.SyncAsync(entity.Metadata.Name!, ct) is { } again ? ReconciliationResult.After(again) : ReconciliationResult.Done;

    /// <inheritdoc/>
    public Task DeletedAsync(PciQuota entity, CancellationToken ct) => Task.CompletedTask;
}
