using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using System.Text.Json.Serialization;
using Microsoft.Extensions.Logging;
using PciOperator.Core;

namespace PciOperator.Host;

/// <summary>
/// What is known of a physical device beyond its claims, by its stable id: one file each, STATE/devices/ID.json. It outlives
/// claims, agents and boots. Thread-safe; a device has one owner, so no two threads change one record.
/// </summary>
/// <remarks>
/// A file that can't be understood is moved to STATE/devices-quarantine. What it said is unknown, so its device is withheld as
/// one that was used once, until an administrator frees it.
/// </remarks>
internal sealed class DeviceMemory(IHostFileSystem files, string stateDirectory)
{
    private const int LargestRecord = 1 << 20;
    private const int LongestName = 180;
    private const string Suffix = ".json";
    private readonly Lock _gate = new();
    private readonly string _folder = $"{stateDirectory}/devices";
    private readonly string _quarantine = $"{stateDirectory}/devices-quarantine";
    private readonly Dictionary<string, DeviceRecord> _records = new(StringComparer.Ordinal);

    // Those of them with a used-once mark: few, and asked for at each look at each device.
    private readonly Dictionary<string, DeviceRecord> _marked = new(StringComparer.Ordinal);

    // The ids of records by the address that they name.
    private readonly Dictionary<string, SortedSet<string>> _places = new(StringComparer.Ordinal);

    // Names of files that can't be understood, and where each lies.
    private readonly Dictionary<string, string> _unreadable = new(StringComparer.Ordinal);
    private Dictionary<string, PciAddress> _present = [];
    private bool _loaded;

    /// <summary>What a device is remembered by.</summary>
    public static string Key(string? stableId, PciAddress address) => stableId ?? $"address:{address}";

    /// <summary>What a function is remembered by.</summary>
    public static string Key(HostFunction function) => Key(function.Function.StableId, function.Address);

    /// <summary>What a claim's device is remembered by.</summary>
    public static string Key(DeviceToTake device) => Key(device.StableId, device.Address);

    /// <summary>Reads all records, the first time.</summary>
    /// <exception cref="JournalException">A record is of a newer format.</exception>
    /// <exception cref="HostIoException">They can't be read.</exception>
    public void Load()
    {
        lock (_gate)
        {
            if (_loaded)
                return;
            foreach (string name in files.List(_folder))
            {
                if (StateFolder.IsLeftOver(files, _folder, name) || !name.EndsWith(Suffix, StringComparison.Ordinal))
                    continue;
                string path = $"{_folder}/{name}";
                byte[]? content = StateFolder.TryRead(files, path, LargestRecord, out bool failed);
                if (content is not null && Read(path, content) is { } record && FileName(record.StableId) == name)
                    Keep(record);
                else if (content is not null || failed)
                    _unreadable[name] = StateFolder.PutAside(files, path, $"{_quarantine}/{name}", content);
            }

            foreach (string name in files.List(_quarantine).Where(name => name.EndsWith(Suffix, StringComparison.Ordinal)))
                _unreadable[name] = $"{_quarantine}/{name}";
            _loaded = true;
        }
    }

    /// <summary>What is remembered of the device; null when nothing.</summary>
    public DeviceRecord? Find(string key, PciAddress address)
    {
        lock (_gate)
            return Locate(key, address);
    }

    /// <summary>Whether anything is remembered that may keep the device from somebody.</summary>
    public bool Knows(string key, PciAddress address) =>
        Find(key, address) is { NoReset: not null } or { NotClean: not null }
        || NotCleanOf(key, address) is not null
        || MarkOf(key, address) is not null
        || UnreadablePath(key) is not null;

    /// <summary>The devices that the host shows now, for <see cref="MarkOf"/>.</summary>
    public void Seen(IEnumerable<KeyValuePair<string, PciAddress>> devices)
    {
        var seen = new Dictionary<string, PciAddress>(StringComparer.Ordinal);
        foreach ((string key, PciAddress address) in devices)
        {
            foreach (string alias in DeviceIdentity.Aliases(key))
                seen[alias] = address;
        }

        lock (_gate)
            _present = seen;
    }

    /// <summary>
    /// The used-once mark of the device at an address. A device whose stable id changed (a guest can spoil a serial number) is
    /// known by its address then: a mark whose device is not seen elsewhere stays at its last address.
    /// </summary>
    public (string Key, UsedOnceMark Mark)? MarkOf(string key, PciAddress address)
    {
        lock (_gate)
        {
            if (_marked.Count == 0)
                return null;
            if (Locate(key, address) is { UsedOnce: { } own } record)
                return (record.StableId, own);
            return
                At(address)
                    .FirstOrDefault(r =>
                        r.UsedOnce is not null && r.StableId != key && _present.GetValueOrDefault(r.StableId, address) == address
                    )
                    is { } moved
                ? (moved.StableId, moved.UsedOnce!)
                : null;
        }
    }

    /// <summary>
    /// Why the device at an address is not clean, which holds for the boot that it names. Within a boot the address counts as much as the
    /// id, which a guest can change.
    /// </summary>
    public NotCleanMark? NotCleanOf(string key, PciAddress address)
    {
        lock (_gate)
            return NotClean(key, address).Select(r => r.NotClean).MaxBy(m => m!.At);
    }

    /// <summary>What is at the address now is as new.</summary>
    public void Forgive(IHostFileSystem through, string key, PciAddress address)
    {
        List<DeviceRecord> its;
        lock (_gate)
            its = [.. NotClean(key, address)];
        foreach (DeviceRecord record in its)
            Replace(through, record with { NotClean = null });
    }

    /// <summary>Where the device's record lies that could not be understood; null when it has none.</summary>
    public string? UnreadablePath(string key)
    {
        lock (_gate)
        {
            // Twins once had one record between them, and nobody knows whose this was.
            return _unreadable.Count == 0
                ? null
                : DeviceIdentity
                    .Aliases(key)
                    .Concat(DeviceIdentity.Aliases(DeviceIdentity.WithoutPlace(key)))
                    .Select(id => _unreadable.GetValueOrDefault(FileName(id)))
                    .FirstOrDefault(path => path is not null);
        }
    }

    /// <summary>Changes a record, on disk when it returns. What is added counts from now on even if writing it fails.</summary>
    public void Update(IHostFileSystem through, string key, PciAddress address, Func<DeviceRecord, DeviceRecord> change)
    {
        DeviceRecord after;
        lock (_gate)
        {
            DeviceRecord before = Locate(key, address) ?? new DeviceRecord { FormatVersion = DeviceRecord.CurrentFormat, StableId = key };
            after = change(before);
            if (after.Equals(before))
                return;
            Keep(after = after with { FormatVersion = DeviceRecord.CurrentFormat, Address = address.ToString() });
        }

        through.WriteDurably(
            $"{_folder}/{FileName(after.StableId)}",
            JsonSerializer.SerializeToUtf8Bytes(after, DeviceMemoryJson.Default.DeviceRecord)
        );
    }

    /// <summary>As <see cref="Update"/>, of what is safe to lose: a failure to write it is only logged.</summary>
    public void TryUpdate(IHostFileSystem through, DeviceToTake device, ILogger logger, Func<DeviceRecord, DeviceRecord> change)
    {
        try
        {
            Update(through, Key(device), device.Address, change);
        }
        catch (HostIoException e)
        {
            logger.LogWarning("What was learnt about {Address} is forgotten when the agent restarts: {Message}", device.Address, e.Message);
        }
    }

    /// <summary>Removes the marks that a claim left on devices which it never had.</summary>
    public void Unmark(IHostFileSystem through, string claimUid)
    {
        List<DeviceRecord> its;
        lock (_gate)
            its = [.. _marked.Values.Where(r => r.UsedOnce!.ClaimUid == claimUid)];
        foreach (DeviceRecord record in its)
            Replace(through, record with { UsedOnce = null });
    }

    /// <summary>Removes a device's used-once mark.</summary>
    /// <returns>Whether there was one.</returns>
    public bool Free(IHostFileSystem through, string key, PciAddress address)
    {
        bool any = false;
        while (UnreadablePath(key) is { } path)
        {
            through.Delete(path);
            lock (_gate)
                _unreadable.Remove(_unreadable.First(u => u.Value == path).Key);
            any = true;
        }

        if (Find(key, address) is { NotBound: not null } unbound)
        {
            Replace(through, unbound with { NotBound = null });
            any = true;
        }

        while (MarkOf(key, address) is (var holder, _) && Exactly(holder) is { } record)
        {
            Replace(through, record with { UsedOnce = null });
            any = true;
        }

        return any;
    }

    private DeviceRecord? Exactly(string stableId)
    {
        lock (_gate)
            return _records.GetValueOrDefault(stableId);
    }

    /// <summary>
    /// The record of a device: by its id; else by an id that it was known by at this address (alone, before another card of its number
    /// came); else as an agent before this one wrote it.
    /// </summary>
    private DeviceRecord? Locate(string key, PciAddress address) =>
        _records.GetValueOrDefault(key)
        ?? At(address).FirstOrDefault(r => DeviceIdentity.MayBeSame(r.StableId, key))
        ?? DeviceIdentity
            .Aliases(key)
            .Skip(1)
            .Where(id => DeviceIdentity.IsSerial(id))
            .Select(id => _records.GetValueOrDefault(id))
            .FirstOrDefault(r => r is not null);

    private IEnumerable<DeviceRecord> NotClean(string key, PciAddress address) =>
        At(address).Append(Locate(key, address)).OfType<DeviceRecord>().Where(r => r.NotClean is not null).Distinct();

    /// <summary>Records that were last written of a device at an address.</summary>
    private IEnumerable<DeviceRecord> At(PciAddress address) =>
        _places.GetValueOrDefault(address.ToString())?.Select(id => _records[id]) ?? [];

    /// <summary>Disk first: what goes counts until it is gone there.</summary>
    private void Replace(IHostFileSystem through, DeviceRecord record)
    {
        through.WriteDurably(
            $"{_folder}/{FileName(record.StableId)}",
            JsonSerializer.SerializeToUtf8Bytes(record, DeviceMemoryJson.Default.DeviceRecord)
        );
        lock (_gate)
            Keep(record);
    }

    private void Keep(DeviceRecord record)
    {
        if (
            _records.GetValueOrDefault(record.StableId)?.Address is { } old
            && old != record.Address
            && _places.TryGetValue(old, out SortedSet<string>? there)
        )
        {
            there.Remove(record.StableId);
        }

        if (record.Address is { } address)
        {
            if (!_places.TryGetValue(address, out SortedSet<string>? here))
                _places[address] = here = new SortedSet<string>(StringComparer.Ordinal);
            here.Add(record.StableId);
        }

        _records[record.StableId] = record;
        if (record.UsedOnce is null)
            _marked.Remove(record.StableId);
        else
            _marked[record.StableId] = record;
    }

    /// <summary>The stable id with what a file name can't hold escaped; a digest of one that is too long.</summary>
    private static string FileName(string key)
    {
        string name = Uri.EscapeDataString(key);
        return (name.Length <= LongestName ? name : Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(key)))) + Suffix;
    }

    private static DeviceRecord? Read(string path, byte[] content)
    {
        try
        {
            DeviceRecord? record = JsonSerializer.Deserialize(content, DeviceMemoryJson.Default.DeviceRecord);
            if (record?.FormatVersion > DeviceRecord.CurrentFormat)
            {
                throw new JournalException(
                    $"The device record {path} has format {record.FormatVersion}, and this agent knows {DeviceRecord.CurrentFormat}: it was written by a newer agent. Run that one."
                );
            }

            return record;
        }
        catch (JsonException)
        {
            return null;
        }
    }
}

/// <summary>What is remembered of one physical device.</summary>
internal sealed record DeviceRecord
{
    public const int CurrentFormat = 1;

    public int FormatVersion { get; init; }

    public required string StableId { get; init; }

    /// <summary>Where it was when last written of.</summary>
    public string? Address { get; init; }

    /// <summary>The reset that has worked on it: tried first.</summary>
    public string? ProvenReset { get; init; }

    /// <summary>It had to be reset and no reset worked; null: none failed, or one has worked since.</summary>
    public NoResetMark? NoReset { get; init; }

    public UsedOnceMark? UsedOnce { get; init; }

    public NotCleanMark? NotClean { get; init; }

    /// <summary>The kernel did not bind it to a VFIO driver; null: it did, or none was tried.</summary>
    public NotBoundMark? NotBound { get; init; }
}

/// <summary>
/// No reset worked on a device that a claim wanted reset. What could change that ends it: another kernel, other methods, or more of its
/// card in the claim.
/// </summary>
internal sealed record NoResetMark(string Why, DateTimeOffset At, string Kernel, string Methods, string Claimed)
{
    /// <summary>Whether a claim for these devices would fail in the same way, as far as can be known.</summary>
    public bool CoversClaimOf(IEnumerable<PciAddress> devices) =>
        devices.Select(d => d.ToString()).ToHashSet(StringComparer.Ordinal).IsSubsetOf(Claimed.Split(' '));

    public bool Holds(string kernel, IEnumerable<string> methods) => Kernel == kernel && Methods == string.Join(' ', methods);
}

/// <summary>
/// A VFIO driver did not take a device. That belongs to device and kernel: another kernel, another driver or other settings of it end it,
/// or an administrator.
/// </summary>
internal sealed record NotBoundMark(string Why, DateTimeOffset At, string Kernel, string Driver, string Setting)
{
    /// <param name="kernel">The kernel's version now.</param>
    /// <param name="setting">The driver's setting now; empty: it isn't loaded, which says nothing.</param>
    public bool Holds(string kernel, string setting) => Kernel == kernel && (setting.Length == 0 || setting == Setting);
}

/// <summary>A claim with oneTimeUse had (or was about to have) the device.</summary>
internal sealed record UsedOnceMark(string ClaimUid, string ClaimNamespace, string ClaimName, DateTimeOffset At);

/// <summary>A claim's device could not be reset after it; the next boot ends it.</summary>
internal sealed record NotCleanMark(string BootId, string Why, DateTimeOffset At);

[JsonSourceGenerationOptions(
    PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase,
    WriteIndented = true,
    RespectNullableAnnotations = true,
    DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull
)]
[JsonSerializable(typeof(DeviceRecord))]
internal sealed partial class DeviceMemoryJson : JsonSerializerContext;
