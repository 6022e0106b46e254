using System.Text.Json;
using PciOperator.Api;
using PciOperator.Core;
using PciOperator.Nova;

namespace PciOperator.Import;

/// <summary>
/// <c>device_spec</c> values as PciDeviceSpecs. In Nova the first that matches a device wins, so the priorities fall; neighbours that
/// say the same of their devices become one.
/// </summary>
internal sealed class DeviceSpecImport(ImportDraft draft)
{
    private const int MostDevices = 64;
    private const int Step = 10;

    // By node; null: for all.
    private readonly List<(string? Node, List<Entry> Entries)> _sets = [];

    /// <summary>Takes the values that one set of hosts reads.</summary>
    /// <param name="node">The node's name; null: what all hosts read.</param>
    /// <param name="labels">The labels of their nodes.</param>
    /// <param name="values">The values, in order.</param>
    public void Take(string? node, IReadOnlyDictionary<string, string> labels, IReadOnlyList<NovaValue> values)
    {
        var entries = new List<Entry>();
        foreach (NovaValue value in values)
        {
            foreach (Entry entry in Read(value, labels))
            {
                if (entries.Count > 0 && entries[^1].SaysTheSame(entry) && entries[^1].Spec.Devices.Count < MostDevices)
                    entries[^1].Join(entry);
                else
                    entries.Add(entry);
            }
        }

        _sets.Add((node, entries));
    }

    /// <summary>Writes what was taken: what all hosts read goes before what one reads, as there.</summary>
    public void Write()
    {
        int common = _sets.Where(s => s.Node is null).Sum(s => s.Entries.Count);
        int own = _sets.Where(s => s.Node is not null).Select(s => s.Entries.Count).DefaultIfEmpty().Max();
        int all = common + own;
        foreach ((string? node, List<Entry> entries) in _sets)
        {
            for (int i = 0; i < entries.Count; i++)
            {
                int place = node is null ? i : common + i;
                entries[i].Spec.Priority = all == 1 ? 0 : (all - place) * (all > 1000 ? 1 : Step);
                string name = ObjectNames.Label($"nova-{(node is null ? "" : node + "-")}{entries[i].What}", "nova");
                draft.Add(entries[i].From, name, entries[i].Spec, entries[i].AllNotes());
            }
        }
    }

    private IEnumerable<Entry> Read(NovaValue value, IReadOnlyDictionary<string, string> labels)
    {
        IReadOnlyList<NovaDeviceSpecEntry> specs;
        try
        {
            specs = NovaDeviceSpec.Read(value.Text);
        }
        catch (SpecFormatException e)
        {
            string hint = e.Field == "device_spec" ? value.Hint("Several go into a list: [{…}, {…}].") : "";
            draft.Refuse(value.Place, $"{value.At.Key}: {e.Message}{hint}");
            yield break;
        }

        foreach (NovaDeviceSpecEntry spec in specs)
        {
            if (EntryOf(value, spec, labels) is { } entry)
                yield return entry;
        }
    }

    private Entry? EntryOf(NovaValue value, NovaDeviceSpecEntry read, IReadOnlyDictionary<string, string> labels)
    {
        var notes = new List<string>(value.Notes);
        if (NothingBecause(read) is { } nothing)
        {
            draft.Notes.Add($"{value.Place}: {value.At.Key} is left out: {nothing}, so it matches no device in Nova either.");
            return null;
        }

        DeviceSelectorSpec selector = SelectorOf(read);
        if (FieldChecks.Broken(selector) is { } broken)
        {
            draft.Refuse(value.Place, $"{value.At.Key}: {broken}");
            return null;
        }

        if (IsEmpty(selector))
            notes.Add("It matches every device of a node that no guard keeps back, as it does in Nova.");
        var spec = new PciDeviceSpecSpec { NodeSelector = labels.Count == 0 ? null : labels, Devices = [selector] };
        AddTags(spec, read.Rule.Tags, notes);
        return new Entry(spec, value, What(selector), notes);
    }

    private static string? NothingBecause(NovaDeviceSpecEntry read)
    {
        if (read.Rule.Selectors[0].IdsOfNone)
            return "an id is a negative number";
        if (read.Fields.Address is { Length: > 0 } address && AddressGlob.Parse(address, true).IsOfNone)
            return $"'{Text.Shorten(address)}' has a negative number";
        return
            read.Fields.DeviceName is { } name
            && FieldChecks.Broken<DeviceSelectorSpec>(new DeviceSelectorSpec { DeviceName = name }) is not null
            ? $"'{Text.Shorten(name)}' can't be the name of a network interface (15 characters at most, no blank, no '/' and no ':')"
            : null;
    }

    private static DeviceSelectorSpec SelectorOf(NovaDeviceSpecEntry read) =>
        new()
        {
            VendorId = read.Rule.Selectors[0].VendorId?.ToString(),
            ProductId = read.Rule.Selectors[0].ProductId?.ToString(),
            Address = read.Fields.Address is { Length: > 0 } address ? AddressGlob.Parse(address, true).ToString() : null,
            AddressPattern = read.Fields.AddressPattern is { } p
                ? new AddressPatternSpec
                {
                    Domain = p.Domain,
                    Bus = p.Bus,
                    Slot = p.Slot,
                    Function = p.Function,
                }
                : null,
            DeviceName = read.Fields.DeviceName,
        };

    private static bool IsEmpty(DeviceSelectorSpec s) =>
        s is { VendorId: null, ProductId: null, Address: null or "*:*:*.*", AddressPattern: null, DeviceName: null };

    private static void AddTags(PciDeviceSpecSpec spec, DeviceTags tags, List<string> notes)
    {
        spec.Trusted = tags.TrustedStated;
        spec.RemoteManaged = tags.RemoteManagedStated;
        spec.Managed = tags.Managed;
        spec.LiveMigratable = tags.LiveMigratable;
        spec.OneTimeUse = tags.OneTimeUseStated;
        spec.ResourceClass = Kept("resource_class", tags.ResourceClass, notes);
        spec.Traits = tags.Traits.Count == 0 ? null : [.. tags.Traits.Where(t => Kept("traits", t, notes) is not null)];
        spec.PhysicalNetwork = Kept("physical_network", tags.PhysicalNetwork, notes);
        if (tags.OneTimeUse)
            notes.Add("one_time_use: the controller keeps the reservation itself; Nova needs report_in_placement for it.");
        var kept = new SortedDictionary<string, string>(StringComparer.Ordinal);
        foreach ((string key, string value) in tags.Other)
        {
            if (FieldChecks.BrokenTag(key, value, kept.Count) is { } broken)
            {
                notes.Add($"The tag '{Text.Shorten(key)}' ({Text.Shorten(value)}) is left out: {broken}.");
                continue;
            }

            kept[key] = value;
            if (Meant(key) is { } meant)
                notes.Add($"'{Text.Shorten(key)}' is no field of Nova's but a tag: this spec does not select by {meant}.");
        }

        spec.Tags = kept.Count == 0 ? null : kept;
    }

    private static string? Kept(string field, string? text, List<string> notes)
    {
        if (text is null || FieldChecks.IsText(text))
            return text;
        notes.Add($"{field} is left out: it has {text.Length} characters, and 1 to 255 can be kept.");
        return null;
    }

    // The field that was probably meant.
    private static string? Meant(string key) =>
        string.Concat(key.Where(char.IsAsciiLetter)).ToLowerInvariant() switch
        {
            "vendorid" or "vendor" => "vendor_id",
            "productid" or "product" or "deviceid" => "product_id",
            "address" or "pciaddress" => "address",
            "devname" or "devicename" => "devname",
            "physicalnetwork" or "physnet" => "physical_network",
            _ => null,
        };

    private static string What(DeviceSelectorSpec s)
    {
        string ids = string.Join('-', new[] { s.VendorId, s.ProductId }.OfType<string>());
        string place =
            s.DeviceName
            ?? (
                s.Address is { } address ? string.Join('-', address.Split(':', '.').Select(f => f == "*" ? "any" : f))
                : s.AddressPattern is { } p ? "pattern"
                : null
            )
            ?? "";
        return (ids, place) switch
        {
            ("", "") => "any",
            ("", _) => place,
            (_, "") => ids,
            _ => $"{ids}-{place}",
        };
    }

    private sealed class Entry(PciDeviceSpecSpec spec, NovaValue value, string what, List<string> notes)
    {
        private readonly List<NovaValue> _values = [value];
        private readonly List<string> _notes = notes;

        public PciDeviceSpecSpec Spec { get; private set; } = spec;

        public string What { get; } = what;

        public Place From => _values[0].Place;

        // Everything but the devices.
        private string Policy => JsonSerializer.Serialize(Spec with { Devices = [] }, PciOperatorJsonContext.Default.PciDeviceSpecSpec);

        public bool SaysTheSame(Entry other) => Policy == other.Policy;

        public void Join(Entry other)
        {
            Spec = Spec with { Devices = [.. Spec.Devices, .. other.Spec.Devices] };
            _values.AddRange(other._values);
            _notes.AddRange(other._notes);
        }

        public IReadOnlyList<string> AllNotes() =>
            [
                $"{string.Join(", ", _values.Select(v => v.Place).Distinct())}: {string.Join(", ", _values.Select(v => v.At.Key).Distinct())}",
                .. _notes.Distinct(),
            ];
    }
}
