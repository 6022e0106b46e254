using System.Diagnostics;
using System.Text.Json;
using PciOperator.Api;
using PciOperator.Kubernetes;
using Prometheus;

namespace PciOperator.Controller;

/// <summary>
/// The only way to write a PciNode's spec. Changes of one node that come together become one write, and every write
/// holds only for the spec it was worked out from (a test on UID and generation), so of two controllers at once
/// one loses and looks again: a device is never given away twice.
/// </summary>
internal sealed class PciNodeWriter(IEntityClient client, WatchCache<PciNode> nodes, TimeProvider time, CollectorRegistry metrics)
{
    /// <summary>How long one write is waited for.</summary>
    public static readonly TimeSpan Patience = TimeSpan.FromSeconds(15);

    private readonly Counter _writes = Metrics
        .WithCustomRegistry(metrics)
        .CreateCounter("pcioperator_pcinode_writes_total", "Writes to PciNode specs by outcome.", ["outcome"]);
    private readonly Counter _changes = Metrics
        .WithCustomRegistry(metrics)
        .CreateCounter("pcioperator_pcinode_changes_total", "Changes that the writes to PciNode specs carried.");
    private readonly Lock _lock = new();
    private readonly Dictionary<string, List<PendingChange>> _pending = [];

    /// <summary>
    /// Changes a node's spec. <paramref name="change"/> gets the newest spec, perhaps several times, and answers with the
    /// new one, or null when nothing is to be done.
    /// </summary>
    /// <returns>The node as it is afterwards; null when there is no such PciNode.</returns>
    /// <exception cref="ApiException">The server refused the write.</exception>
    /// <exception cref="PlacementConflictException">Thrown by <paramref name="change"/> and passed on to its caller alone.</exception>
    public Task<PciNode?> ChangeAsync(string node, Func<PciNode, PciNodeSpec?> change, CancellationToken ct)
    {
        var pending = new PendingChange(change);
        lock (_lock)
        {
            if (_pending.TryGetValue(node, out List<PendingChange>? queue))
            {
                queue.Add(pending);
                return pending.Done.Task.WaitAsync(ct);
            }

            _pending[node] = [pending];
        }

        _ = DrainAsync(node, ct);
        return pending.Done.Task.WaitAsync(ct);
    }

    /// <summary>Takes a claim's assignment out of a node's spec, if it is there.</summary>
    /// <returns>The node as it is afterwards; null when there is no such PciNode.</returns>
    public Task<PciNode?> WithdrawAsync(string node, string claimUid, CancellationToken ct) =>
        ChangeAsync(
            node,
            current =>
                current.Spec.Assignments?.Any(a => a.ClaimUid == claimUid) == true
                    ? current.Spec with
                    {
                        Assignments = [.. current.Spec.Assignments.Where(a => a.ClaimUid != claimUid)],
                    }
                    : null,
            ct
        );

    /// <summary>Writes until no change of the node waits any more. Its entry in <see cref="_pending"/> says that it runs.</summary>
    private async Task DrainAsync(string node, CancellationToken ct)
    {
        while (true)
        {
            List<PendingChange> batch;
            lock (_lock)
            {
                batch = _pending[node];
                if (batch.Count == 0)
                {
                    _pending.Remove(node);
                    return;
                }

                _pending[node] = [];
            }

            try
            {
                await WriteAsync(node, batch, ct);
            }
#pragma warning disable CA1031 // whatever it was, it is the callers' to hear
            catch (Exception error)
#pragma warning restore CA1031
            {
                batch.ForEach(p => p.Done.TrySetException(error));
            }

            // The next write is no part of the span in whose course the first was asked for.
            Activity.Current = null;
        }
    }

    private async Task WriteAsync(string node, List<PendingChange> batch, CancellationToken ct)
    {
        const int attempts = 8;
        PciNode? current = nodes.Get(node);
        for (int attempt = 1; ; attempt++)
        {
            current ??= await client.GetAsync<PciNode>(node, ct: ct);
            PciNodeSpec? wanted = current is null ? null : Apply(current, batch);
            if (current is null || wanted is null)
            {
                batch.ForEach(p => p.Done.TrySetResult(current));
                return;
            }

            try
            {
                PciNode written = await PatchAsync(current, wanted, ct);
                nodes.Observe(written);
                _writes.WithLabels("written").Inc();
                _changes.Inc(batch.Count);
                batch.ForEach(p => p.Done.TrySetResult(written));
                return;
            }
            catch (ApiException refused) when (refused.IsNotFound)
            {
                batch.ForEach(p => p.Done.TrySetResult(null));
                return;
            }
            catch (ApiException refused) when (IsOutdated(refused) && attempt < attempts)
            {
                // Somebody else changed the spec: read it and work the changes out again.
                _writes.WithLabels("conflict").Inc();
                current = await client.GetAsync<PciNode>(node, ct: ct);
                if (current is not null)
                    nodes.Observe(current);
                else
                    batch.ForEach(p => p.Done.TrySetResult(null));
                if (current is null)
                    return;
            }
        }
    }

    /// <summary>One write. What has no answer in its time is given up, and whether it was done is not known.</summary>
    private async Task<PciNode> PatchAsync(PciNode current, PciNodeSpec wanted, CancellationToken ct)
    {
        using var patience = new CancellationTokenSource(Patience, time);
        using var either = CancellationTokenSource.CreateLinkedTokenSource(ct, patience.Token);
        try
        {
            return await client.PatchAsync<PciNode>(current.Metadata.Name!, null, SpecPatch(current, wanted), ct: either.Token);
        }
        catch (OperationCanceledException late) when (!ct.IsCancellationRequested)
        {
            throw new HttpRequestException(
                $"the write of PciNode {current.Metadata.Name} had no answer within {Patience.TotalSeconds:0} s",
                late
            );
        }
    }

    /// <summary>The spec with every change; changes that no longer hold fail alone. Null when nothing is left to write.</summary>
    private static PciNodeSpec? Apply(PciNode current, List<PendingChange> batch)
    {
        PciNodeSpec? wanted = null;
        foreach (PendingChange pending in batch.ToArray())
        {
            try
            {
                wanted = pending.Change(wanted is null ? current : current with { Spec = wanted }) ?? wanted;
            }
            catch (PlacementConflictException conflict)
            {
                batch.Remove(pending);
                pending.Done.TrySetException(conflict);
            }
        }

        return wanted;
    }

    private static EntityPatch SpecPatch(PciNode current, PciNodeSpec wanted)
    {
        string spec = JsonSerializer.Serialize(wanted, PciOperatorJsonContext.Default.PciNodeSpec);
        return EntityPatch.Json(
            $$"""
            [{"op":"test","path":"/metadata/uid","value":"{{current.Metadata.Uid}}"},
             {"op":"test","path":"/metadata/generation","value":{{current.Metadata.Generation ?? 0}}},
             {"op":"replace","path":"/spec","value":{{spec}}}]
            """
        );
    }

    /// <summary>A test that failed is 422 with reason Invalid or none; a conflict inside the server is 409.</summary>
    private static bool IsOutdated(ApiException refused) =>
        refused.IsConflict
        || (refused.StatusCode == System.Net.HttpStatusCode.UnprocessableEntity && refused.Status.Details?.Causes is not { Count: > 0 });

    private sealed record PendingChange(Func<PciNode, PciNodeSpec?> Change)
    {
        public TaskCompletionSource<PciNode?> Done { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);
    }
}

/// <summary>What was decided no longer holds: a device went to somebody else meanwhile.</summary>
public sealed class PlacementConflictException(string message) : Exception(message);
