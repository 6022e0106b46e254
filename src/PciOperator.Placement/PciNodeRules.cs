using System.Text.Json;
using PciOperator.Api;

namespace PciOperator.Placement;

/// <summary>PciDeviceSpecs as rules of a PciNode.</summary>
internal static class PciNodeRules
{
    /// <summary>A spec as it applies to a node: guard overrides of other nodes are left out.</summary>
    public static PciNodeRule Of(PciDeviceSpec spec, string node) =>
        new(spec.Spec)
        {
            Name = spec.Metadata.Name!,
            GuardOverrides = spec.Spec.GuardOverrides?.Where(o => o.NodeName == node).ToList() is { Count: > 0 } own ? own : null,
        };

    /// <summary>Whether two lists of rules read the same on the wire.</summary>
    public static bool Same(IReadOnlyList<PciNodeRule>? a, IReadOnlyList<PciNodeRule> b) => Json(a ?? []).AsSpan().SequenceEqual(Json(b));

    private static byte[] Json(IReadOnlyList<PciNodeRule> rules) =>
        JsonSerializer.SerializeToUtf8Bytes(new PciNodeSpec { Rules = rules }, PciOperatorJsonContext.Default.PciNodeSpec);
}
