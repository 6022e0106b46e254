using PciOperator.Nova;

namespace PciOperator.Import;

/// <summary>The configuration files of a Nova.</summary>
public sealed record NovaConfSource
{
    /// <summary>What all hosts read, in the order in which Nova is given them (<c>--config-file</c>).</summary>
    public IReadOnlyList<SourceFile> Files { get; init; } = [];

    /// <summary>What one host reads after these, by the name of its node; a name may come more than once.</summary>
    public IReadOnlyList<NodeFile> NodeFiles { get; init; } = [];

    /// <summary>Labels of the nodes that <see cref="Files"/> are for; none: every node.</summary>
    public IReadOnlyDictionary<string, string> NodeSelector { get; init; } = new Dictionary<string, string>();
}

/// <summary>A file that one host alone reads.</summary>
/// <param name="Node">Its node's name.</param>
/// <param name="File">The file.</param>
public sealed record NodeFile(string Node, SourceFile File);

/// <summary>Nova's <c>[pci]</c> options as PciDeviceSpecs and PciAliases.</summary>
public static class NovaConfImport
{
    internal const string Pci = "pci";

    private static readonly OsloName[] DeviceSpecs =
    [
        new(Pci, "device_spec"),
        new(Pci, "passthrough_whitelist"),
        new(OsloFile.DefaultGroup, "pci_passthrough_whitelist"),
    ];

    private static readonly OsloName[] Aliases = [new(Pci, "alias"), new(OsloFile.DefaultGroup, "pci_alias")];

    /// <summary>Reads files.</summary>
    public static ImportResult Read(NovaConfSource source)
    {
        ArgumentNullException.ThrowIfNull(source);
        var draft = new ImportDraft();
        List<OsloFile> common = [.. source.Files.Select(f => OsloFile.Parse(f.Name, f.Text))];
        var hosts = source
            .NodeFiles.GroupBy(f => f.Node, StringComparer.Ordinal)
            .Select(node => (Node: node.Key, Files: node.Select(f => OsloFile.Parse(f.File.Name, f.File.Text)).ToList()))
            .ToList();
        List<OsloFile> all = [.. common, .. hosts.SelectMany(h => h.Files)];
        foreach (OsloError error in all.SelectMany(f => f.Errors))
            draft.Refuse(error.File, error.Line, $"{error.Message}. Nova refuses the whole file; the rest of it was read all the same");
        OsloConfig whole = Config(all);
        SettingNotes.Add(draft, whole, DeviceSpecs, Aliases, all);

        var specs = new DeviceSpecImport(draft);
        specs.Take(null, source.NodeSelector, Values(draft, Config(common), common, DeviceSpecs));
        foreach ((string node, List<OsloFile> files) in hosts)
        {
            specs.Take(
                node,
                new Dictionary<string, string> { [NodeLabel] = node },
                Values(draft, Config([.. common, .. files]), files, DeviceSpecs)
            );
        }

        specs.Write();
        var aliases = new AliasImport(draft, whole.Boolean(new OsloName("filter_scheduler", "pci_in_placement")) == true);
        aliases.Take(null, Values(draft, Config(common), common, Aliases));
        foreach ((string node, List<OsloFile> files) in hosts)
            aliases.Take(node, Values(draft, Config([.. common, .. files]), files, Aliases));
        aliases.Write();
        return draft.Result([.. source.Files, .. source.NodeFiles.Select(f => f.File)]);
    }

    /// <summary>The label that every node has of its name.</summary>
    internal const string NodeLabel = "kubernetes.io/hostname";

    /// <summary>The PciAliases that the files define, by Nova's name.</summary>
    internal static IReadOnlyDictionary<string, string> AliasNames(IReadOnlyList<SourceFile> files)
    {
        List<OsloFile> parsed = [.. files.Select(f => OsloFile.Parse(f.Name, f.Text))];
        var draft = new ImportDraft();
        var aliases = new AliasImport(draft, inPlacement: false);
        aliases.Take(null, Values(draft, Config(parsed), parsed, Aliases));
        return aliases.Names;
    }

    // Of [pci] all options are known, and these alone can be put into another's value.
    private static OsloConfig Config(IReadOnlyList<OsloFile> files) =>
        new(files, name => name.Group != Pci || name.Name == SettingNotes.ReportInPlacement);

    // The values of some of the files, with what the whole of them puts into them.
    private static List<NovaValue> Values(ImportDraft draft, OsloConfig whole, IReadOnlyList<OsloFile> files, OsloName[] names)
    {
        var values = new List<NovaValue>();
        foreach (OsloAssignment at in new OsloConfig(files).All(names))
        {
            var taken = new List<OsloAssignment>();
            try
            {
                string text = whole.Substitute(at, taken);
                values.Add(new NovaValue(at, text, [.. taken.Select(t => $"'{t.Value}' was put in for ${t.Key} ({t.File}:{t.Line}).")]));
            }
            catch (Core.SpecFormatException e)
            {
                draft.Refuse(at.File, at.Line, $"{at.Key}: {e.Message}");
            }
        }

        return values;
    }
}

/// <summary>One value of an option.</summary>
/// <param name="At">Where it is.</param>
/// <param name="Text">The value, with what its <c>$name</c>s mean.</param>
/// <param name="Notes">What was put in.</param>
internal sealed record NovaValue(OsloAssignment At, string Text, IReadOnlyList<string> Notes)
{
    /// <summary><c>nova.conf:12</c>.</summary>
    public Place Place => new(At.File, At.Line);

    /// <summary>What a person who wrote this probably meant to write; empty, or a blank and a sentence.</summary>
    public string Hint(string several)
    {
        string text = Text.Trim();
        if (text.Length == 0)
            return " It is empty: leave the line out.";
        if (At.EndsAtKey is { Length: > 0 } next && next[0] is '"' or '\'' or '{' or '}' or '[' or ']')
            return $" The value ends here, because the next line, '{Core.Text.Shorten(next)}', does not begin with a blank.";
        if (text[0] is '"' or '\'')
            return " Quotes around a value must begin and end on its first line: leave them out.";
        if (text.Contains("\n#", StringComparison.Ordinal) || text.Contains("\n;", StringComparison.Ordinal) || EndsInComment(text))
            return " A comment is a line of its own that begins in the first column; here it is a part of the value.";
        if (text.Contains("{'", StringComparison.Ordinal) || text.Contains("{ '", StringComparison.Ordinal))
            return " JSON has double quotes, not single ones.";
        return text[0] == '{' && text.Replace(" ", "", StringComparison.Ordinal).Contains("},{", StringComparison.Ordinal)
            ? " " + several
            : "";
    }

    private static bool EndsInComment(string text) =>
        text.LastIndexOfAny(['}', ']']) is >= 0 and int end && text[(end + 1)..].TrimStart() is ['#' or ';', ..];
}
