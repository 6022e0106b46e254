namespace PciOperator.Core;

/// <summary>Devices by the alias that they were asked for by. Not thread-safe.</summary>
public sealed class DeviceCounts
{
    /// <summary>What a limit of this name counts: the devices of all aliases together.</summary>
    public const string All = "*";

    private readonly Dictionary<string, int> _byAlias = new(StringComparer.Ordinal);

    /// <summary>The devices of all aliases.</summary>
    public int Total { get; private set; }

    /// <summary>The devices of an alias; of <see cref="All"/>, all of them.</summary>
    public int Of(string alias) => alias == All ? Total : _byAlias.GetValueOrDefault(alias);

    /// <summary>The aliases that there are devices of.</summary>
    public IReadOnlyDictionary<string, int> ByAlias => _byAlias;

    /// <summary>Counts devices; those whose alias is not known count among all alone.</summary>
    public void Add(string? alias, int devices)
    {
        Total += devices;
        if (alias is not null)
            _byAlias[alias] = _byAlias.GetValueOrDefault(alias) + devices;
    }

    /// <summary>Counts what others counted.</summary>
    public void Add(DeviceCounts other)
    {
        ArgumentNullException.ThrowIfNull(other);
        Total += other.Total;
        foreach ((string alias, int devices) in other._byAlias)
            _byAlias[alias] = _byAlias.GetValueOrDefault(alias) + devices;
    }
}
