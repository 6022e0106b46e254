using PciOperator.Host;

namespace PciOperator.Sandbox.Hosts;

/// <summary>A folder tree in memory with symbolic links, device nodes, and files whose text is computed when read.</summary>
internal sealed class FileTree
{
    private const int MostLinks = 40;

    private readonly Folder _root = new();

    // An agent asks for the same paths again and again.
    private readonly Dictionary<string, Entry?> _followed = new(StringComparer.Ordinal);
    private readonly Dictionary<string, Entry?> _unfollowed = new(StringComparer.Ordinal);

    public abstract record Entry;

    /// <summary>A folder.</summary>
    public sealed record Folder : Entry
    {
        private readonly Dictionary<string, Entry> _entries = new(StringComparer.Ordinal);
        private Action<Folder>? _fill;

        public IReadOnlyDictionary<string, Entry> Entries
        {
            get
            {
                if (_fill is { } once)
                {
                    _fill = null;
                    var rest = new Folder();
                    once(rest);
                    Add(rest);
                }

                return _entries;
            }
        }

        /// <summary>What else the folder has, told when somebody looks into it. What was put into it by then stays.</summary>
        public void FillLater(Action<Folder> what) => _fill = what;

        /// <summary>The folder at a path below this one, made when it isn't there.</summary>
        public Folder Below(ReadOnlySpan<char> path)
        {
            Dictionary<string, Entry>.AlternateLookup<ReadOnlySpan<char>> byName = _entries.GetAlternateLookup<ReadOnlySpan<char>>();
            Folder at = this;
            foreach (Range range in path.Split('/'))
            {
                ReadOnlySpan<char> name = path[range];
                if (name.IsEmpty || name is ".")
                    continue;
                if (!byName.TryGetValue(name, out Entry? next))
                    byName[name] = next = new Folder();
                at = (Folder)next;
                byName = at._entries.GetAlternateLookup<ReadOnlySpan<char>>();
            }

            return at;
        }

        public void Put(string path, Entry entry)
        {
            int slash = path.LastIndexOf('/');
            (slash < 0 ? this : Below(path.AsSpan(0, slash)))._entries[path[(slash + 1)..]] = entry;
        }

        public void Text(string path, string text, Action<string>? write = null) =>
            Put(path, new File(() => System.Text.Encoding.UTF8.GetBytes(text + "\n"), write));

        private void Add(Folder rest)
        {
            foreach ((string name, Entry entry) in rest._entries)
            {
                if (!_entries.TryAdd(name, entry) && entry is Folder more && _entries[name] is Folder there)
                    there.Add(more);
            }
        }
    }

    public sealed record Link(string Target) : Entry;

    public sealed record Node(DeviceNumber Number) : Entry;

    /// <param name="Read">The content; null: not readable.</param>
    /// <param name="Write">What a write does; null: not writable.</param>
    public sealed record File(Func<byte[]>? Read, Action<string>? Write) : Entry;

    public Folder MakeFolder(string path) => _root.Below(path);

    public void Put(string path, Entry entry)
    {
        _root.Put(path, entry);
        Forget();
    }

    public void Text(string path, string text, Action<string>? write = null)
    {
        _root.Text(path, text, write);
        Forget();
    }

    /// <summary>What is at the path; null when nothing is. For one caller at a time.</summary>
    /// <param name="path">Absolute.</param>
    /// <param name="followLast">Follow a link at the path's end.</param>
    public Entry? Find(string path, bool followLast = true)
    {
        Dictionary<string, Entry?> known = followLast ? _followed : _unfollowed;
        if (!known.TryGetValue(path, out Entry? entry))
        {
            int links = 0;
            known[path] = entry = Find(Names(path), followLast, ref links);
        }

        return entry;
    }

    private void Forget()
    {
        if (_followed.Count == 0 && _unfollowed.Count == 0)
            return;
        _followed.Clear();
        _unfollowed.Clear();
    }

    private Entry? Find(List<string> names, bool followLast, ref int links)
    {
        var trail = new List<Folder> { _root };
        for (int i = 0; i < names.Count; i++)
        {
            if (names[i] == "..")
            {
                if (trail.Count > 1)
                    trail.RemoveAt(trail.Count - 1);
                continue;
            }

            if (!trail[^1].Entries.TryGetValue(names[i], out Entry? entry))
                return null;
            bool last = i == names.Count - 1;
            if (entry is Link link && (!last || followLast))
            {
                if (++links > MostLinks)
                    return null;
                List<string> rest = [.. Names(link.Target), .. names.Skip(i + 1)];
                if (link.Target.StartsWith('/'))
                    return Find(rest, followLast, ref links);
                names = rest;
                i = -1;
                continue;
            }

            if (last)
                return entry;
            if (entry is not Folder folder)
                return null;
            trail.Add(folder);
        }

        return trail[^1];
    }

    private static List<string> Names(string path) =>
        [.. path.Split('/', StringSplitOptions.RemoveEmptyEntries).Where(name => name != ".")];
}
