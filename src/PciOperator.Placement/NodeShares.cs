using System.Text.Json;
using PciOperator.Api;

namespace PciOperator.Placement;

/// <summary>What of the specs and the claims fits into one PciNode.</summary>
internal static class NodeShares
{
    /// <summary>As many rules as the schema takes.</summary>
    public const int MostRules = 128;

    /// <summary>As many assignments as the schema takes.</summary>
    public const int MostAssignments = 1024;

    /// <summary>As many claims as a node is given: a few assignments are kept for those that are being decided at the same time.</summary>
    public const int MostClaims = MostAssignments - 64;

    /// <summary>As many devices of one claim as the schema takes.</summary>
    public const int MostDevices = 256;

    // A little more than names and devices take with all of their fields, but for texts of any length, which are counted.
    private const int AssignmentSize = 400;
    private const int DeviceSize = 450;
    private const int AliasSize = 32;

    // Room for one claim more of the biggest kind that is usual, and for those that are being decided at the same time.
    private const int Reserve = 50_000;

    /// <summary>
    /// The rules of highest priority that fit, and the names of the others. Never one after one that is left out: a device that the first
    /// spec matches must not come under a second one's policy.
    /// </summary>
    public static (List<PciNodeRule> Kept, List<string> LeftOut) Fit(IReadOnlyList<PciNodeRule> rules)
    {
        int count = Fitted.Count(
            rules,
            MostRules,
            StoredSize.Rules,
            r => StoredSize.Of(JsonSerializer.SerializeToUtf8Bytes(r, PciOperatorJsonContext.Default.PciNodeRule))
        );
        return ([.. rules.Take(count)], [.. rules.Skip(count).Select(r => r.Name)]);
    }

    /// <summary>Whether a node has as many claims as its PciNode can say.</summary>
    public static bool IsFull(PciNodeSpec? spec) =>
        spec?.Assignments is { } assignments && (assignments.Count >= MostClaims || Size(assignments) > StoredSize.Assignments - Reserve);

    /// <summary>Whether assignments fit into a PciNode.</summary>
    public static bool Fits(IReadOnlyList<PciAssignment> assignments) =>
        assignments.Count <= MostAssignments && Size(assignments) <= StoredSize.Assignments;

    /// <summary>What assignments take at most, without spelling them out: it is asked for each node and claim.</summary>
    internal static int Size(IReadOnlyList<PciAssignment> assignments)
    {
        int size = 0;
        foreach (PciAssignment assignment in assignments)
        {
            size += AssignmentSize + assignment.ClaimNamespace.Length + assignment.ClaimName.Length;
            foreach (AssignedDevice device in assignment.Devices)
            {
                size +=
                    DeviceSize
                    + (device.StableId?.Length ?? 0)
                    + (device.Request?.Length ?? 0)
                    + (device.Alias is { } alias ? AliasSize + alias.Length : 0);
            }
        }

        return size;
    }
}

/// <summary>The PciDeviceSpecs that some nodes have no room for, for their conditions.</summary>
internal sealed class LeftOutSpecs
{
    private readonly Lock _lock = new();
    private readonly Dictionary<string, IReadOnlyList<string>> _byNode = [];

    /// <summary>Raised when a node leaves out others than before.</summary>
    public event Action? Changed;

    /// <summary>Says what a node leaves out; true when that is news.</summary>
    public bool Set(string node, IReadOnlyList<string> specs)
    {
        lock (_lock)
        {
            if (_byNode.TryGetValue(node, out IReadOnlyList<string>? known) ? known.SequenceEqual(specs) : specs.Count == 0)
                return false;
            if (specs.Count == 0)
                _byNode.Remove(node);
            else
                _byNode[node] = specs;
        }

        Changed?.Invoke();
        return true;
    }

    /// <summary>The nodes that leave a spec out, by name.</summary>
    public IReadOnlyList<string> NodesWithout(string spec)
    {
        lock (_lock)
            return [.. _byNode.Where(n => n.Value.Contains(spec)).Select(n => n.Key).Order(StringComparer.Ordinal)];
    }
}
