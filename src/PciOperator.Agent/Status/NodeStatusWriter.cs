using System.Text.Json;
using PciOperator.Api;
using PciOperator.Core;
using PciOperator.Kubernetes;
using Prometheus;

namespace PciOperator.Agent;

/// <summary>
/// Writes a PciNode's status, and only when it says something new. The agent is its only writer, so the write holds for this PciNode (its UID),
/// whatever the controller does to the spec meanwhile. What only says what the agent is about to do, and that devices were handed out, waits
/// a moment for the next write: a PciNode is the largest object there is.
/// </summary>
internal sealed class NodeStatusWriter(IEntityClient client, TimeSpan patience, TimeProvider time, CollectorRegistry metrics)
{
    private readonly Counter _writes = Metrics
        .WithCustomRegistry(metrics)
        .CreateCounter("pcioperator_agent_status_writes_total", "Writes of the PciNode's status.");

    // What the PciNode that was compared with last says: most looks find the same one, and nothing new.
    private (PciNode? Node, byte[] Status) _compared = (null, []);

    // Since when there is something to say that can wait.
    private long? _waitsSince;

    /// <summary>Writes what is new.</summary>
    /// <returns>The node as written, and when what is new will be written; null and null when there is nothing.</returns>
    public async Task<(PciNode? Written, TimeSpan? Later)> WriteAsync(PciNode node, PciNodeStatus status, CancellationToken ct)
    {
        if (NewOf(node, status) is not { } wanted)
        {
            _waitsSince = null;
            return (null, null);
        }

        if (CanWait(node, status))
        {
            _waitsSince ??= time.GetTimestamp();
            if (patience - time.GetElapsedTime(_waitsSince.Value) is var left && left > TimeSpan.Zero)
                return (null, left);
        }

        _waitsSince = null;
        var patch = EntityPatch.Json(
            $$"""
            [{"op":"test","path":"/metadata/uid","value":"{{node.Metadata.Uid}}"},
             {"op":"add","path":"/status","value":{{System.Text.Encoding.UTF8.GetString(wanted)}}}]
            """
        );
        PciNode written = await client.PatchAsync<PciNode>(node.Metadata.Name!, null, patch, "status", ct);
        _writes.Inc();
        return (written, null);
    }

    /// <summary>
    /// Whether all that is new is that devices are being bound for claims which were just given to the node, or were handed out to pods. What the
    /// controller waits for, such as that a withdrawal was seen, can't wait.
    /// </summary>
    internal static bool CanWait(PciNode node, PciNodeStatus status)
    {
        if (node.Status is not { } said || node.Spec.Settling == true)
            return false;
        var known = (said.Assignments ?? []).Select(a => a.ClaimUid).ToHashSet();
        bool begins = (status.Assignments ?? []).Any(a => IsBegun(a) && !known.Contains(a.ClaimUid));
        if (status.ObservedGeneration != said.ObservedGeneration && !begins)
            return false;
        var begun = (status.Assignments ?? [])
            .Concat(said.Assignments ?? [])
            .Where(IsBegun)
            .SelectMany(a => (a.Devices ?? []).Select(d => d.Address))
            .ToHashSet();
        return Lasting(said, begun).AsSpan().SequenceEqual(Lasting(status, begun));
    }

    private static bool IsBegun(AssignmentStatus assignment) => assignment is { State: HoldingState.Preparing, Reason: null };

    /// <summary>A status without what can wait.</summary>
    private static byte[] Lasting(PciNodeStatus status, HashSet<string> begun) =>
        JsonSerializer.SerializeToUtf8Bytes(
            status with
            {
                ObservedGeneration = null,
                Summary = null,
                Assignments = [.. (status.Assignments ?? []).Where(a => !IsBegun(a)).Select(a => a with { Delivered = null })],
                Devices = [.. (status.Devices ?? []).Where(d => !begun.Contains(d.Address))],
                Pools = [.. (status.Pools ?? []).Select(p => p with { Available = 0, Claimed = 0 })],
            },
            PciOperatorJsonContext.Default.PciNodeStatus
        );

    /// <summary>A status as JSON, or null when it is what the PciNode says already.</summary>
    internal byte[]? NewOf(PciNode node, PciNodeStatus status)
    {
        byte[] wanted = JsonSerializer.SerializeToUtf8Bytes(status, PciOperatorJsonContext.Default.PciNodeStatus);
        if (node.Status is null)
            return wanted;
        if (!ReferenceEquals(_compared.Node, node))
            _compared = (node, JsonSerializer.SerializeToUtf8Bytes(node.Status, PciOperatorJsonContext.Default.PciNodeStatus));
        return wanted.AsSpan().SequenceEqual(_compared.Status) ? null : wanted;
    }
}
