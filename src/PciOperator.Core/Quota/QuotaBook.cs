namespace PciOperator.Core;

/// <summary>So many devices of an alias, or of all (<see cref="DeviceCounts.All"/>), and no more.</summary>
/// <param name="Alias">The alias.</param>
/// <param name="Devices">The most devices.</param>
public sealed record DeviceLimit(string Alias, int Devices);

/// <summary>A limit that claims would break.</summary>
/// <param name="Limit">The limit.</param>
/// <param name="Used">What counts against it already.</param>
/// <param name="Asked">What the claims ask for of it.</param>
public sealed record QuotaExcess(DeviceLimit Limit, int Used, int Asked);

/// <summary>
/// What counts in one namespace, claim by claim: a claim counts once, however many places know of it. Not thread-safe.
/// </summary>
public sealed class QuotaBook
{
    private readonly Dictionary<string, DeviceCounts> _claims = new(StringComparer.Ordinal);

    /// <summary>All that counts.</summary>
    public DeviceCounts Used { get; } = new();

    /// <summary>Counts a claim that does not count yet.</summary>
    /// <returns>False when it does.</returns>
    public bool Add(string claimUid, DeviceCounts devices)
    {
        ArgumentNullException.ThrowIfNull(devices);
        if (!_claims.TryAdd(claimUid, devices))
            return false;
        Used.Add(devices);
        return true;
    }

    /// <summary>Whether a claim counts.</summary>
    public bool Has(string claimUid) => _claims.ContainsKey(claimUid);

    /// <summary>The claims that count against a limit, with the devices of each.</summary>
    public IEnumerable<(string ClaimUid, int Devices)> Of(string alias) =>
        _claims.Select(c => (c.Key, c.Value.Of(alias))).Where(c => c.Item2 > 0);

    /// <summary>
    /// The first limit that further claims would break; null: they fit. Those that count already ask for nothing more, and a limit of which
    /// nothing is asked breaks nobody, however far it is exceeded.
    /// </summary>
    public QuotaExcess? WhyNot(IEnumerable<DeviceLimit> limits, IEnumerable<(string ClaimUid, DeviceCounts Devices)> claims)
    {
        var asked = new DeviceCounts();
        foreach ((string uid, DeviceCounts devices) in claims)
        {
            if (!_claims.ContainsKey(uid))
                asked.Add(devices);
        }

        return limits
            .Select(l => new QuotaExcess(l, Used.Of(l.Alias), asked.Of(l.Alias)))
            .FirstOrDefault(e => e.Asked > 0 && e.Used + e.Asked > e.Limit.Devices);
    }
}
