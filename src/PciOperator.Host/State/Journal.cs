using System.Text.Json;

namespace PciOperator.Host;

/// <summary>The journal was written by a newer agent, or can't be read at all.</summary>
public sealed class JournalException(string message, Exception? inner = null) : Exception(message, inner);

/// <summary>Another agent has the state folder: this one must not act.</summary>
public sealed class StateFolderInUseException(string message) : Exception(message);

/// <summary>
/// One JSON file for each claim, STATE/journal/UID.json. A file that can't be understood is moved to STATE/journal-quarantine
/// and stands for a claim that holds something unknown until a person removes it there.
/// </summary>
internal sealed class Journal(IHostFileSystem files, string stateDirectory)
{
    private const int LargestEntry = 4 << 20;
    private const int LongestUid = 64;
    private const int LongestDriver = 64;
    private const string Suffix = ".json";
    private readonly string _folder = $"{stateDirectory}/journal";
    private readonly string _quarantine = $"{stateDirectory}/journal-quarantine";
    private readonly SortedDictionary<string, string> _unreadable = new(StringComparer.Ordinal);

    /// <summary>Whether a UID can name a file.</summary>
    public static bool IsUid(string uid) =>
        uid.Length is > 0 and <= LongestUid
        && char.IsAsciiLetterOrDigit(uid[0])
        && uid.All(c => char.IsAsciiLetterOrDigit(c) || c is '-' or '.' or '_');

    /// <summary>All entries.</summary>
    /// <exception cref="JournalException">An entry is of a newer format.</exception>
    /// <exception cref="HostIoException">The journal can't be read.</exception>
    public List<JournalEntry> Load()
    {
        var entries = new List<JournalEntry>();
        _unreadable.Clear();
        foreach (string name in files.List(_folder))
        {
            if (StateFolder.IsLeftOver(files, _folder, name))
                HasLeftOvers |= files.Exists($"{_folder}/{name}");
            else if (name.EndsWith(Suffix, StringComparison.Ordinal))
                Load(name, entries);
        }

        foreach (string name in files.List(_quarantine).Where(name => name.EndsWith(Suffix, StringComparison.Ordinal)))
            _unreadable[name[..^Suffix.Length]] = $"{_quarantine}/{name}";
        return entries;
    }

    private void Load(string name, List<JournalEntry> entries)
    {
        string path = $"{_folder}/{name}",
            uid = name[..^Suffix.Length];
        byte[]? content = StateFolder.TryRead(files, path, LargestEntry, out bool failed);
        if (content is not null && IsUid(uid) && Read(path, content) is { } entry && entry.ClaimUid == uid)
            entries.Add(entry);
        else if (content is not null || failed || !IsUid(uid))
            _unreadable[uid] = StateFolder.PutAside(files, path, $"{_quarantine}/{name}", content);
    }

    /// <summary>
    /// What can't be understood, as <see cref="Load()"/> found it: names of files without their suffix (claims' UIDs, as a rule), and where
    /// they lie.
    /// </summary>
    public IReadOnlyDictionary<string, string> Unreadable => _unreadable;

    /// <summary>Whether something is left of writes that were cut off, and could not be removed.</summary>
    public bool HasLeftOvers { get; private set; }

    /// <summary>Removes what <see cref="Load()"/> could not.</summary>
    /// <exception cref="HostIoException">It still can't be removed.</exception>
    public void RemoveLeftOvers()
    {
        StateFolder.RemoveLeftOvers(files, _folder);
        HasLeftOvers = false;
    }

    /// <summary>On disk, durably, when it returns.</summary>
    public void Save(IHostFileSystem through, JournalEntry entry) =>
        through.WriteDurably(
            $"{_folder}/{entry.ClaimUid}{Suffix}",
            JsonSerializer.SerializeToUtf8Bytes(entry, JournalJson.Default.JournalEntry)
        );

    /// <summary>Gone from disk, durably, when it returns.</summary>
    public void Remove(IHostFileSystem through, string uid)
    {
        string path = $"{_folder}/{uid}{Suffix}";
        try
        {
            through.Delete(path);
        }
        catch (HostIoException e) when (e.Errno == Errnos.EROFS && !through.Exists(path))
        {
            // Where nothing can be written the kernel refuses before it has looked; what isn't there needs no removing.
        }
    }

    private static JournalEntry? Read(string path, byte[] content)
    {
        try
        {
            int version = JsonSerializer.Deserialize(content, JournalJson.Default.JournalVersion)?.FormatVersion ?? 0;
            if (version > JournalEntry.CurrentFormat)
            {
                throw new JournalException(
                    $"The journal entry {path} has format {version}, and this agent knows {JournalEntry.CurrentFormat}: it was written by a newer agent. Run that one, or release the claim with it first."
                );
            }

            JournalEntry? entry = version < 1 ? null : JsonSerializer.Deserialize(content, JournalJson.Default.JournalEntry);
            return entry is not null && entry.Devices.Count > 0 && entry.Devices.All(IsWhole) && entry.IsNamed ? entry.Upgraded() : null;
        }
        catch (JsonException)
        {
            return null;
        }
    }

    private static bool IsWhole(JournalDevice device) =>
        IsDriver(device.TargetDriver)
        && (device.OriginalDriver is null || IsDriver(device.OriginalDriver))
        && (device.OriginalOverride is null || IsDriver(device.OriginalOverride));

    /// <summary>It becomes a part of paths, and of what is written to the kernel.</summary>
    private static bool IsDriver(string name) =>
        name.Length is > 0 and <= LongestDriver && name.All(c => c is > ' ' and <= '~' and not '/');
}
