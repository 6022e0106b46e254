using PciOperator.Api;
using PciOperator.Core;
using PciOperator.Nova;

namespace PciOperator.Import;

/// <summary><c>alias</c> values as PciAliases: those of one name are any of these.</summary>
/// <param name="draft">What is made.</param>
/// <param name="inPlacement">Whether Nova asks Placement for them: only then do resource class and traits count beside both ids.</param>
internal sealed class AliasImport(ImportDraft draft, bool inPlacement)
{
    private const int MostDevices = 16;

    private readonly List<Draft> _aliases = [];
    private readonly Dictionary<string, Draft> _byName = new(StringComparer.Ordinal);

    /// <summary>The PciAlias' name for each of Nova's.</summary>
    public IReadOnlyDictionary<string, string> Names => _aliases.ToDictionary(a => a.NovaName, a => a.Name, StringComparer.Ordinal);

    /// <summary>Takes the values that one set of hosts reads.</summary>
    /// <param name="node">The node's name; null: what all hosts read.</param>
    /// <param name="values">The values, in order.</param>
    public void Take(string? node, IReadOnlyList<NovaValue> values)
    {
        foreach (NovaValue value in values)
        {
            if (Read(value) is not { } alias)
                continue;
            if (!_byName.TryGetValue(alias.Name, out Draft? known))
                Begin(node, value, alias);
            else if (known.Values.Any(v => v.Alias == alias && (v.Value.At.File != value.At.File || known.Node != node)))
                known.Also.Add(value.Place);
            else if (known.Node != node)
                draft.Refuse(value.Place, Differs(node, alias, known));
            else
                Join(known, value, alias);
        }
    }

    /// <summary>Writes what was taken.</summary>
    public void Write()
    {
        foreach (Draft alias in _aliases)
            draft.Add(alias.Values[0].Value.Place, alias.Name, SpecOf(alias), alias.AllNotes());
    }

    private static string Differs(string? node, NovaAlias alias, Draft known) =>
        $"alias {Text.Shorten(alias.Name)} of {node} is another than that of {known.Values[0].Value.Place}, which was kept: an alias means the same on every node";

    private NovaAlias? Read(NovaValue value)
    {
        try
        {
            return NovaAlias.Parse(value.Text);
        }
        catch (SpecFormatException e)
        {
            string hint = e.Field == "alias" ? value.Hint("Give alias once for each, on lines of their own.") : "";
            if (e.Field == "alias" && value.Text.AsSpan().Trim() is ['[', ..])
                hint = " An alias is no list: give alias once for each, on lines of their own.";
            draft.Refuse(value.Place, $"{value.At.Key}: {e.Message}{hint}");
            return null;
        }
    }

    private void Begin(string? node, NovaValue value, NovaAlias alias)
    {
        var begun = new Draft(node, alias.Name);
        if (!Add(begun, value, alias))
            return;
        begun.Name = draft.AliasNames.Unique(ObjectNames.Label(alias.Name, "alias"));
        _aliases.Add(begun);
        _byName[alias.Name] = begun;
    }

    private void Join(Draft known, NovaValue value, NovaAlias alias)
    {
        if (alias.LiveMigratable != known.Values[0].Alias.LiveMigratable)
        {
            draft.Refuse(
                value.Place,
                $"alias {Text.Shorten(alias.Name)}: its values differ in live_migratable, and a PciAlias has one for all: give it another name"
            );
        }
        else if (known.Values.Count == MostDevices)
        {
            draft.Refuse(value.Place, $"alias {Text.Shorten(alias.Name)}: a PciAlias is any of {MostDevices} descriptions at most");
        }
        else
        {
            Add(known, value, alias);
        }
    }

    // Nova's own rules, one value more at a time, so that an error is that of its line.
    private bool Add(Draft known, NovaValue value, NovaAlias alias)
    {
        try
        {
            AliasDefinition joined = NovaAlias.Join([.. known.Values.Select(v => v.Alias), alias])[alias.Name];
            if (joined.AnyOf.Count == known.Devices.Count)
            {
                draft.Notes.Add(
                    $"{value.Place}: alias {Text.Shorten(alias.Name)} is left out: an id has no hexadecimal digits, so it means no device in Nova either."
                );
                return false;
            }
        }
        catch (SpecFormatException e)
        {
            draft.Refuse(value.Place, $"{value.At.Key}: {e.Message}");
            return false;
        }

        AliasDevice device = DeviceOf(alias, known.Notes);
        if (FieldChecks.Broken(device) is { } broken)
        {
            draft.Refuse(value.Place, $"{value.At.Key}: {broken}");
            return false;
        }

        known.Values.Add((value, alias));
        known.Devices.Add(device);
        known.Notes.AddRange(value.Notes);
        return true;
    }

    private AliasDevice DeviceOf(NovaAlias alias, List<string> notes)
    {
        bool ids = alias is { VendorId: not null, ProductId: not null };
        bool byClass = inPlacement || !ids;
        if (!byClass && (alias.ResourceClass is not null || alias.Traits is not null))
        {
            notes.Add(
                "resource_class and traits are left out: Nova looks at them only with [filter_scheduler] pci_in_placement, which these files don't set. To have them count, add resourceClass and traits to devices."
            );
        }

        if (alias.CapabilityType is not null)
            notes.Add("capability_type is left out: every device here is a PCI device. (In Nova such an alias matches none.)");
        IReadOnlyList<string> traits = byClass && alias.Traits is { } list ? Trait.ParseList(list) : [];
        return new AliasDevice
        {
            VendorId = alias.VendorId is { } vendor ? PciId.Parse(vendor).ToString() : null,
            ProductId = alias.ProductId is { } product ? PciId.Parse(product).ToString() : null,
            DeviceType = alias.DeviceType,
            ResourceClass = byClass && alias.ResourceClass is { } name ? ResourceClass.Normalize(name) : null,
            Traits = traits.Count == 0 ? null : traits,
        };
    }

    private static PciAliasSpec SpecOf(Draft alias) =>
        new()
        {
            Devices = alias.Devices,
            NumaPolicy = alias.Values[0].Alias.NumaPolicy,
            LiveMigratable = alias.Values[0].Alias.LiveMigratable,
        };

    private sealed class Draft(string? node, string novaName)
    {
        public string? Node { get; } = node;

        public string NovaName { get; } = novaName;

        public string Name { get; set; } = "";

        public List<(NovaValue Value, NovaAlias Alias)> Values { get; } = [];

        public List<AliasDevice> Devices { get; } = [];

        public List<string> Notes { get; } = [];

        public List<Place> Also { get; } = [];

        public IReadOnlyList<string> AllNotes()
        {
            string from = string.Join(", ", Values.Select(v => v.Value.Place));
            string also = Also.Count == 0 ? "" : $" (the same at {string.Join(", ", Also)})";
            var all = new List<string> { $"{from}: {Values[0].Value.At.Key} {Text.Shorten(NovaName)}{also}" };
            if (Name != NovaName)
                all.Add($"Its name was '{Text.Shorten(NovaName)}': claims ask for {Name}.");
            if (NovaName.AsSpan().ContainsAny(':', ','))
                all.Add("A flavor can't ask for it in Nova: ':' and ',' separate what a flavor asks for.");
            all.AddRange(Notes.Distinct());
            return all;
        }
    }
}
