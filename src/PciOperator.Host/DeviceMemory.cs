using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using System.Text.Json.Serialization;
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
    private readonly Lock gate = new();
    private readonly string folder = $"{stateDirectory}/devices";
    private readonly string quarantine = $"{stateDirectory}/devices-quarantine";
    private readonly Dictionary<string, DeviceRecord> records = new(StringComparer.Ordinal);

    // Those of them with a used-once mark: few, and asked for at each look at each device.
    private readonly Dictionary<string, DeviceRecord> marked = new(StringComparer.Ordinal);
    private readonly HashSet<string> unreadable = new(StringComparer.Ordinal);
    private Dictionary<string, PciAddress> present = [];
    private bool loaded;

    /// <summary>What a device is remembered by.</summary>
    public static string Key(string? stableId, PciAddress address) => stableId ?? $"address:{address}";

    /// <summary>Reads all records, the first time.</summary>
    /// <exception cref="JournalException">A record is of a newer format.</exception>
    /// <exception cref="HostIoException">They can't be read.</exception>
    public void Load()
    {
        lock (gate)
        {
            if (loaded)
                return;
            foreach (string name in files.List(folder))
            {
                string path = $"{folder}/{name}";
                if (name.EndsWith(".tmp", StringComparison.Ordinal))
                {
                    files.Delete(path);
                    continue;
                }

                if (!name.EndsWith(Suffix, StringComparison.Ordinal) || files.ReadBytes(path, LargestRecord) is not { } content)
                    continue;
                if (Read(path, content) is { } record && FileName(record.StableId) == name)
                {
                    Keep(record);
                    continue;
                }

                files.WriteDurably($"{quarantine}/{name}", content);
                files.Delete(path);
            }

            unreadable.UnionWith(files.List(quarantine).Where(name => name.EndsWith(Suffix, StringComparison.Ordinal)));
            loaded = true;
        }
    }

    /// <summary>What is remembered of the device; null when nothing.</summary>
    public DeviceRecord? Find(string key)
    {
        lock (gate)
            return records.GetValueOrDefault(key);
    }

    /// <summary>Whether anything is remembered that may keep the device from somebody.</summary>
    public bool Knows(string key, PciAddress address) => Find(key) is { } record && (record.NoReset is not null || record.NotClean is not null) || MarkOf(key, address) is not null || UnreadablePath(key) is not null;

    /// <summary>The devices that the host shows now, for <see cref="MarkOf"/>.</summary>
    public void Seen(IEnumerable<KeyValuePair<string, PciAddress>> devices)
    {
        var seen = new Dictionary<string, PciAddress>(StringComparer.Ordinal);
        foreach ((string key, PciAddress address) in devices)
            seen[key] = address;
        lock (gate)
            present = seen;
    }

    /// <summary>
    /// The used-once mark of the device at an address. A device whose stable id changed (a guest can spoil a serial number) is
    /// known by its address then: a mark whose device is not seen elsewhere stays at its last address.
    /// </summary>
    public (string Key, UsedOnceMark Mark)? MarkOf(string key, PciAddress address)
    {
        lock (gate)
        {
            if (marked.Count == 0)
                return null;
            if (marked.GetValueOrDefault(key)?.UsedOnce is { } own)
                return (key, own);
            string at = address.ToString();
            return marked.Values.FirstOrDefault(r => r.Address == at && r.StableId != key && present.GetValueOrDefault(r.StableId, address) == address) is { } moved
                ? (moved.StableId, moved.UsedOnce!)
                : null;
        }
    }

    /// <summary>Where the device's record lies that could not be understood; null when it has none.</summary>
    public string? UnreadablePath(string key)
    {
        lock (gate)
            return unreadable.Count > 0 && FileName(key) is var name && unreadable.Contains(name) ? $"{quarantine}/{name}" : null;
    }

    /// <summary>Changes a record, on disk when it returns. What is added counts from now on even if writing it fails.</summary>
    public void Update(IHostFileSystem through, string key, PciAddress address, Func<DeviceRecord, DeviceRecord> change)
    {
        DeviceRecord after;
        lock (gate)
        {
            DeviceRecord before = records.GetValueOrDefault(key) ?? new DeviceRecord { FormatVersion = DeviceRecord.CurrentFormat, StableId = key };
            after = change(before);
            if (after.Equals(before))
                return;
            Keep(after = after with { FormatVersion = DeviceRecord.CurrentFormat, Address = address.ToString() });
        }

        through.WriteDurably($"{folder}/{FileName(key)}", JsonSerializer.SerializeToUtf8Bytes(after, DeviceMemoryJson.Default.DeviceRecord));
    }

    /// <summary>Removes the marks that a claim left on devices which it never had.</summary>
    public void Unmark(IHostFileSystem through, string claimUid)
    {
        List<DeviceRecord> its;
        lock (gate)
            its = [.. marked.Values.Where(r => r.UsedOnce!.ClaimUid == claimUid)];
        foreach (DeviceRecord record in its)
            Replace(through, record with { UsedOnce = null });
    }

    /// <summary>Removes a device's used-once mark.</summary>
    /// <returns>Whether there was one.</returns>
    public bool Free(IHostFileSystem through, string key, PciAddress address)
    {
        bool any = false;
        if (UnreadablePath(key) is { } path)
        {
            through.Delete(path);
            lock (gate)
                unreadable.Remove(FileName(key));
            any = true;
        }

        if (MarkOf(key, address) is (var holder, _) && Find(holder) is { } record)
        {
            Replace(through, record with { UsedOnce = null });
            any = true;
        }

        return any;
    }

    /// <summary>Disk first: what goes counts until it is gone there.</summary>
    private void Replace(IHostFileSystem through, DeviceRecord record)
    {
        through.WriteDurably($"{folder}/{FileName(record.StableId)}", JsonSerializer.SerializeToUtf8Bytes(record, DeviceMemoryJson.Default.DeviceRecord));
        lock (gate)
            Keep(record);
    }

    private void Keep(DeviceRecord record)
    {
        records[record.StableId] = record;
        if (record.UsedOnce is null)
            marked.Remove(record.StableId);
        else
            marked[record.StableId] = record;
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
                throw new JournalException($"The device record {path} has format {record.FormatVersion}, and this agent knows {DeviceRecord.CurrentFormat}: it was written by a newer agent. Run that one.");
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
}

/// <summary>No reset worked on a device that a claim wanted reset. What could change that ends it: another kernel, other methods, or more of its card in the claim.</summary>
internal sealed record NoResetMark(string Why, DateTimeOffset At, string Kernel, string Methods, string Claimed)
{
    /// <summary>Whether a claim for these devices would fail in the same way, as far as can be known.</summary>
    public bool CoversClaimOf(IEnumerable<PciAddress> devices) =>
        devices.Select(d => d.ToString()).ToHashSet(StringComparer.Ordinal).IsSubsetOf(Claimed.Split(' '));

    public bool Holds(string kernel, IEnumerable<string> methods) => Kernel == kernel && Methods == string.Join(' ', methods);
}

/// <summary>A claim with oneTimeUse had (or was about to have) the device.</summary>
internal sealed record UsedOnceMark(string ClaimUid, string ClaimNamespace, string ClaimName, DateTimeOffset At);

/// <summary>A claim's device could not be reset after it; the next boot ends it.</summary>
internal sealed record NotCleanMark(string BootId, string Why, DateTimeOffset At);

[JsonSourceGenerationOptions(
    PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase,
    WriteIndented = true,
    RespectNullableAnnotations = true,
    DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull)]
[JsonSerializable(typeof(DeviceRecord))]
internal sealed partial class DeviceMemoryJson : JsonSerializerContext;
