using System.Collections.Immutable;

namespace PciOperator.Sandbox.ApiServer.Resources;

/// <summary>The resources that are served now: the built-in ones and those of CustomResourceDefinitions.</summary>
internal sealed class Catalog
{
    private sealed record State(
        ImmutableDictionary<string, ImmutableArray<ResourceType>> Custom,
        IReadOnlyList<ResourceType> All,
        Dictionary<(string Group, string Version, string Plural), ResourceType> ByPath,
        Dictionary<string, ResourceType> ByTable
    );

    private readonly Lock _lock = new();
    private volatile State _state = Index(ImmutableDictionary<string, ImmutableArray<ResourceType>>.Empty);

    /// <summary>Changes whenever what is served changes.</summary>
    public int Generation { get; private set; }

    public IReadOnlyList<ResourceType> All => _state.All;

    public ResourceType? Find(string group, string version, string plural) => _state.ByPath.GetValueOrDefault((group, version, plural));

    /// <summary>The resource whose objects a table holds, in the version in which it holds them.</summary>
    public ResourceType? OfTable(string table) => _state.ByTable.GetValueOrDefault(table);

    public ResourceType? FindKind(string group, string version, string kind) =>
        _state.All.FirstOrDefault(t => t.Group == group && t.Version == version && t.Kind == kind);

    /// <summary>Serves the versions of one CustomResourceDefinition; none takes them away.</summary>
    public void SetCustom(string crdName, IEnumerable<ResourceType> versions)
    {
        lock (_lock)
        {
            var types = versions.ToImmutableArray();
            ImmutableDictionary<string, ImmutableArray<ResourceType>> custom = types.IsEmpty
                ? _state.Custom.Remove(crdName)
                : _state.Custom.SetItem(crdName, types);
            _state = Index(custom);
            Generation++;
        }
    }

    private static State Index(ImmutableDictionary<string, ImmutableArray<ResourceType>> custom)
    {
        var all = BuiltIns.All.Concat(custom.OrderBy(c => c.Key, StringComparer.Ordinal).SelectMany(c => c.Value)).ToList();
        return new State(
            custom,
            all,
            all.ToDictionary(t => (t.Group, t.Version, t.Plural)),
            all.GroupBy(t => t.StorageTable)
                .ToDictionary(g => g.Key, g => g.FirstOrDefault(t => t.ToStored is null) ?? g.First(), StringComparer.Ordinal)
        );
    }
}
