using PciOperator.Core;

namespace PciOperator.NovaVectors;

/// <summary>A transition that the device's state does not allow.</summary>
public sealed class DeviceStateException(PciAddress address, string message) : InvalidOperationException(message)
{
    /// <summary>The device.</summary>
    public PciAddress Address { get; } = address;
}

/// <summary>
/// A host's devices with their owners, and Nova's transitions on them. Only owners are kept; what a PF's owner means for
/// its VFs, and the other way round, is worked out each time, so it can't go wrong as it does where it is stored.
/// </summary>
public sealed class DeviceLedger
{
    private readonly SortedDictionary<PciAddress, Entry> _entries = [];

    /// <summary>The devices by address.</summary>
    public IReadOnlyCollection<PciAddress> Addresses => _entries.Keys;

    /// <summary>
    /// Takes over what the host shows now. A device that is gone, or that no rule matches any more, is removed: at once when nobody
    /// has it, else when its owner gives it back; a device in use changes its properties then, too.
    /// </summary>
    /// <param name="host">All functions of the host.</param>
    /// <param name="rules">Highest priority first.</param>
    /// <param name="atStart">Whether this is the first look since a start: what went missing before it is not known then.</param>
    /// <remarks>
    /// A device that went missing while in use is another one when it is seen again: it is removed when given back, and the next look finds
    /// it anew.
    /// </remarks>
    public void Sync(IReadOnlyList<PciFunction> host, IReadOnlyList<DeviceRule> rules, bool atStart = false)
    {
        IReadOnlyDictionary<PciAddress, DeviceRule> matched = DeviceMatcher.Match(host, rules);
        Forget();
        foreach (PciFunction f in host)
        {
            if (!matched.TryGetValue(f.Address, out DeviceRule? rule))
                continue;
            if (!_entries.TryGetValue(f.Address, out Entry? entry))
                _entries[f.Address] = entry = new Entry { Function = f, Rule = rule };
            entry.Next = (f, rule);
            entry.Listed |= atStart;
            if (entry.Owner is null)
                entry.Renew();
        }

        foreach (Entry entry in _entries.Values)
            entry.Listed &= matched.ContainsKey(entry.Function.Address);
    }

    /// <summary>Drops what is removed, as Nova does when it saves.</summary>
    public void Forget()
    {
        foreach (PciAddress gone in _entries.Where(e => e.Value.Removed).Select(e => e.Key).ToArray())
            _entries.Remove(gone);
    }

    /// <summary>The state of a device, from all owners as they are.</summary>
    public DeviceState StateOf(PciAddress address)
    {
        Entry entry = _entries[address];
        if (entry.Owner is not null)
            return entry.Allocated ? DeviceState.Allocated : DeviceState.Claimed;
        if (entry.Removed)
            return DeviceState.Removed;
        bool claimed = false;
        foreach (Entry other in Relatives(entry))
        {
            if (other.Owner is null)
                continue;
            if (other.Allocated)
                return DeviceState.Unavailable;
            claimed = true;
        }

        return claimed ? DeviceState.Unclaimable : DeviceState.Available;
    }

    /// <summary>The owner of a device; null when nobody has it.</summary>
    public string? OwnerOf(PciAddress address) => _entries[address].Owner;

    /// <summary>The devices of an owner.</summary>
    public IEnumerable<PciAddress> DevicesOf(string owner) => _entries.Where(e => e.Value.Owner == owner).Select(e => e.Key);

    /// <summary>Promises devices to an owner: all or none.</summary>
    /// <exception cref="DeviceStateException">One is not available, or two are a PF and its VF.</exception>
    public void Claim(string owner, IReadOnlyCollection<PciAddress> addresses)
    {
        ArgumentNullException.ThrowIfNull(owner);
        ArgumentNullException.ThrowIfNull(addresses);
        var done = new List<Entry>();
        foreach (PciAddress address in addresses)
        {
            DeviceState state = _entries.ContainsKey(address) ? StateOf(address) : DeviceState.Removed;
            if (state != DeviceState.Available)
            {
                foreach (Entry entry in done)
                    entry.Owner = null;
                throw new DeviceStateException(address, $"{address} is {state.ToNova()}; only an available device can be claimed.");
            }

            _entries[address].Owner = owner;
            _entries[address].Allocated = false;
            done.Add(_entries[address]);
        }
    }

    /// <summary>Hands over what is promised to an owner.</summary>
    public void Allocate(string owner)
    {
        foreach (Entry entry in _entries.Values.Where(e => e.Owner == owner))
            entry.Allocated = true;
    }

    /// <summary>Takes back one device.</summary>
    /// <exception cref="DeviceStateException">It is not the owner's.</exception>
    public void Free(string owner, PciAddress address)
    {
        if (!_entries.TryGetValue(address, out Entry? entry) || entry.Owner != owner)
            throw new DeviceStateException(address, $"{address} does not belong to {owner}.");
        (entry.Owner, entry.Allocated) = (null, false);
        if (entry.Listed)
            entry.Renew();
    }

    /// <summary>Takes back all that an owner has.</summary>
    public void Free(string owner)
    {
        foreach (PciAddress address in DevicesOf(owner).ToArray())
            Free(owner, address);
    }

    /// <summary>The host as the allocator sees it: each device a group of its own, owners as they are.</summary>
    public NodeInventory ToInventory(string name, IReadOnlyDictionary<int, int?>? sockets = null)
    {
        // Groups that no host has, for functions whose group is not known.
        int group = 1 << 30;
        return NodeInventory.Build(
            name,
            [
                .. _entries
                    .Values.Where(e => !e.Removed)
                    .Select(e => new NodeDevice
                    {
                        Function = e.Function with { IommuGroup = e.Function.IommuGroup ?? group++ },
                        Tags = e.Rule.Tags,
                        Rule = e.Rule.Name,
                        Owner = e.Owner,
                    }),
            ],
            sockets
        );
    }

    private IEnumerable<Entry> Relatives(Entry entry)
    {
        if (entry.Function is { IsVirtual: true, ParentAddress: { } parent } && _entries.TryGetValue(parent, out Entry? pf))
            yield return pf;

        // By the address alone, as offers go: what was a PF may have become something else under its VFs.
        foreach (Entry other in _entries.Values)
        {
            if (other.Function is { IsVirtual: true, ParentAddress: { } its } && its == entry.Function.Address)
                yield return other;
        }
    }

    private sealed class Entry
    {
        public required PciFunction Function { get; set; }

        public required DeviceRule Rule { get; set; }

        public (PciFunction Function, DeviceRule Rule)? Next { get; set; }

        public bool Listed { get; set; } = true;

        public string? Owner { get; set; }

        public bool Allocated { get; set; }

        public bool Removed => !Listed && Owner is null;

        public void Renew()
        {
            if (Next is { } next)
                (Function, Rule, Next) = (next.Function, next.Rule, null);
        }
    }
}
