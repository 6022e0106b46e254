using System.Collections.Frozen;

namespace PciOperator.Core;

/// <summary>One line of a claim: so many devices of an alias.</summary>
public sealed record DeviceRequest
{
    /// <summary>Its name, unique in the claim.</summary>
    public required string Name { get; init; }

    /// <summary>What is asked for.</summary>
    public required AliasDefinition Alias { get; init; }

    /// <summary>How many, 1 to 16.</summary>
    public int Count { get; init; } = 1;

    /// <summary>The policy of this request; null: the alias'.</summary>
    public NumaPolicy? NumaPolicy { get; init; }
}

/// <summary>What is known of the guest's NUMA topology.</summary>
public enum GuestNumaKind
{
    /// <summary>Nothing yet: the claim comes before its VM, and the devices decide.</summary>
    Unknown,

    /// <summary>The guest has none: no policy filters anything, as in Nova.</summary>
    None,

    /// <summary>The host NUMA nodes that the guest's CPUs and memory are on.</summary>
    Nodes,
}

/// <summary>A guest's NUMA topology: unknown, none, or the host nodes that it sits on.</summary>
public readonly record struct GuestNuma
{
    private readonly int[]? _nodes;

    private GuestNuma(GuestNumaKind kind, int[]? nodes) => (Kind, _nodes) = (kind, nodes);

    /// <summary>Not known yet.</summary>
    public static GuestNuma Unknown => default;

    /// <summary>A guest without NUMA.</summary>
    public static GuestNuma None => new(GuestNumaKind.None, null);

    /// <summary>Which of the three.</summary>
    public GuestNumaKind Kind { get; }

    /// <summary>The host nodes, ascending; empty unless <see cref="Kind"/> is <see cref="GuestNumaKind.Nodes"/>.</summary>
    public IReadOnlyList<int> Nodes => _nodes ?? [];

    /// <summary>The array behind <see cref="Nodes"/>, for the allocator's inner loops.</summary>
    internal int[] NodeArray => _nodes ?? [];

    /// <summary>A guest on these host nodes. Without any it has no NUMA topology, as Nova sees it.</summary>
    public static GuestNuma On(IEnumerable<int> nodes)
    {
        int[] sorted = [.. nodes.Distinct().Order()];
        return sorted.Length == 0 ? None : new GuestNuma(GuestNumaKind.Nodes, sorted);
    }

    /// <inheritdoc cref="On(IEnumerable{int})"/>
    public static GuestNuma On(params int[] nodes) => On((IEnumerable<int>)nodes);

    /// <summary>Same kind and same nodes.</summary>
    public bool Equals(GuestNuma other) => Kind == other.Kind && NodeArray.AsSpan().SequenceEqual(other.NodeArray);

    /// <inheritdoc/>
    public override int GetHashCode()
    {
        var hash = new HashCode();
        hash.Add(Kind);
        foreach (int node in NodeArray)
            hash.Add(node);
        return hash.ToHashCode();
    }

    /// <summary><c>unknown</c>, <c>none</c> or the nodes.</summary>
    public override string ToString() =>
        Kind switch
        {
            GuestNumaKind.Unknown => "unknown",
            GuestNumaKind.None => "none",
            _ => string.Join(",", NodeArray),
        };
}

/// <summary>A device that an agent refused for the claim: it is kept out for that claim.</summary>
/// <param name="Node">The node's name.</param>
/// <param name="Address">The device.</param>
public readonly record struct DeviceExclusion(string Node, PciAddress Address);

/// <summary>A claim, as far as the allocator is concerned.</summary>
public sealed record ClaimRequirements
{
    /// <summary>The claim's UID. Devices that it owns already count as taken: it is asked for once.</summary>
    public required string ClaimUid { get; init; }

    /// <summary>Its requests, 1 to 8; all or nothing, and their order changes nothing.</summary>
    public required IReadOnlyList<DeviceRequest> Requests { get; init; }

    /// <summary>
    /// A policy for all requests without one of their own: it overrides their aliases', also to a weaker one, as a flavor's does.
    /// </summary>
    public NumaPolicy? NumaPolicy { get; init; }

    /// <summary>What is known of the guest.</summary>
    public GuestNuma GuestNuma { get; init; }

    /// <summary>Devices that the agents refused for this claim.</summary>
    public IReadOnlySet<DeviceExclusion> Excluded { get; init; } = FrozenSet<DeviceExclusion>.Empty;

    /// <summary>
    /// The policy that holds for a request: its own (as an SR-IOV port's does in Nova), else the claim's, else its alias'.
    /// </summary>
    public NumaPolicy PolicyOf(DeviceRequest request)
    {
        ArgumentNullException.ThrowIfNull(request);
        return request.NumaPolicy ?? NumaPolicy ?? request.Alias.NumaPolicy;
    }
}
