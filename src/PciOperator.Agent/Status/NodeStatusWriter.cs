using System.Text.Json;
using PciOperator.Api;
using PciOperator.Kubernetes;
using Prometheus;

namespace PciOperator.Agent;

/// <summary>Writes a PciNode's status, and only when it says something new. The agent is its only writer, so the write
/// holds for this PciNode (its UID), whatever the controller does to the spec meanwhile.</summary>
internal sealed class NodeStatusWriter(IEntityClient client, CollectorRegistry metrics)
{
    private readonly Counter _writes = Metrics
        .WithCustomRegistry(metrics)
        .CreateCounter("pcioperator_agent_status_writes_total", "Writes of the PciNode's status.");

    // What the PciNode that was compared with last says: most looks find the same one, and nothing new.
    private (PciNode? Node, byte[] Status) _compared = (null, []);

    /// <summary>The node as written, or null when there was nothing to write.</summary>
    public async Task<PciNode?> WriteAsync(PciNode node, PciNodeStatus status, CancellationToken ct)
    {
        if (NewOf(node, status) is not { } wanted)
            return null;

        var patch = EntityPatch.Json(
            $$"""
            [{"op":"test","path":"/metadata/uid","value":"{{node.Metadata.Uid}}"},
             {"op":"add","path":"/status","value":{{System.Text.Encoding.UTF8.GetString(wanted)}}}]
            """
        );
        PciNode written = await client.PatchAsync<PciNode>(node.Metadata.Name!, null, patch, "status", ct);
        _writes.Inc();
        return written;
    }

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
