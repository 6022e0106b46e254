using System.Globalization;
using YamlDotNet.Core;
using YamlDotNet.Core.Events;
using YamlDotNet.RepresentationModel;

namespace PciOperator.Import;

/// <summary>A Kubernetes object in a file, and what was asked of it, so that the rest can be told.</summary>
internal sealed class SourceObject
{
    private const int DeepestList = 4;
    private const int DeepestNode = 100;

    private SourceObject(string file, YamlMappingNode root)
    {
        (File, Root) = (file, new Fields(root));
        Kind = Root.Text("kind") ?? "";
        ApiGroup = (Root.Text("apiVersion") ?? "").Split('/')[0];
        Name = Root.Map("metadata")?.Text("name") ?? "";
    }

    /// <summary>The file's name.</summary>
    public string File { get; }

    /// <summary>The line where it begins.</summary>
    public int Line => Root.Line;

    /// <summary>Its kind.</summary>
    public string Kind { get; }

    /// <summary>The group of its API.</summary>
    public string ApiGroup { get; }

    /// <summary>Its name.</summary>
    public string Name { get; }

    /// <summary>All of it.</summary>
    public Fields Root { get; }

    /// <summary>The objects of a file: documents of YAML or JSON, lists taken apart.</summary>
    /// <param name="file">The file.</param>
    /// <param name="draft">Gets what can't be read.</param>
    public static IReadOnlyList<SourceObject> ReadAll(SourceFile file, ImportDraft draft)
    {
        var stream = new YamlStream();
        try
        {
            string text = file.Text.TrimStart('\uFEFF');
            CheckDepth(text);
            stream.Load(new StringReader(text));
        }
        catch (YamlException e)
        {
            draft.Refuse(file.Name, (int)e.Start.Line, $"this is not YAML: {e.Message}");
            return [];
        }

        var manifests = new List<SourceObject>();
        foreach (YamlDocument document in stream.Documents)
            Take(file, document.RootNode, manifests, draft, 0);
        return manifests;
    }

    // The library builds its tree by recursion, and a stack that overflows can't be caught.
    private static void CheckDepth(string text)
    {
        var parser = new Parser(new StringReader(text));
        for (int depth = 0; parser.MoveNext(); )
        {
            if (parser.Current is MappingStart or SequenceStart)
                depth++;
            else if (parser.Current is MappingEnd or SequenceEnd)
                depth--;
            if (depth > DeepestNode)
                throw new YamlException(parser.Current!.Start, parser.Current.End, $"it is nested more than {DeepestNode} deep");
        }
    }

    private static void Take(SourceFile file, YamlNode node, List<SourceObject> manifests, ImportDraft draft, int depth)
    {
        if (node is YamlScalarNode { Value: null or "" or "~" or "null" })
            return;
        if (node is not YamlMappingNode map || depth > DeepestList)
        {
            draft.Refuse(file.Name, (int)node.Start.Line, "this is no object of Kubernetes: it has no kind");
            return;
        }

        SourceObject manifest;
        try
        {
            manifest = new SourceObject(file.Name, map);
        }
        catch (ManifestException e)
        {
            draft.Refuse(file.Name, e.Line, e.Message);
            return;
        }

        if (manifest.Kind.EndsWith("List", StringComparison.Ordinal) && Fields.Child(map, "items") is YamlSequenceNode items)
        {
            foreach (YamlNode item in items.Children)
                Take(file, item, manifests, draft, depth + 1);
        }
        else if (manifest.Kind.Length == 0)
        {
            draft.Refuse(file.Name, manifest.Line, "this is no object of Kubernetes: it has no kind");
        }
        else
        {
            manifests.Add(manifest);
        }
    }
}

/// <summary>The fields of a YAML mapping, and which of them were asked for.</summary>
internal sealed class Fields(YamlMappingNode map)
{
    private readonly HashSet<string> _asked = new(StringComparer.Ordinal);

    /// <summary>Where it begins.</summary>
    public int Line => (int)map.Start.Line;

    /// <summary>Fields that nobody asked for.</summary>
    public IEnumerable<string> Others =>
        map.Children.Keys.OfType<YamlScalarNode>().Select(k => k.Value ?? "").Where(k => !_asked.Contains(k));

    /// <summary>A field's text; null: not there, null or empty.</summary>
    /// <exception cref="ManifestException">It is no scalar.</exception>
    public string? Text(string name) =>
        Find(name) switch
        {
            null => null,
            YamlScalarNode { Style: ScalarStyle.Plain, Value: "~" or "null" } => null,
            YamlScalarNode { Value.Length: > 0 } scalar => scalar.Value,
            YamlScalarNode => null,
            YamlNode other => throw new ManifestException(other, $"{name} is a list or an object; expected one value"),
        };

    /// <summary>A field's number.</summary>
    /// <exception cref="ManifestException">It is none.</exception>
    public int? Number(string name) =>
        Text(name) is not { } text ? null
        : int.TryParse(text, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out int number) ? number
        : throw new ManifestException(Find(name)!, $"{name} '{Core.Text.Shorten(text)}' is no whole number");

    /// <summary>Whether a field says true.</summary>
    /// <exception cref="ManifestException">It is no boolean.</exception>
    public bool? Flag(string name) =>
        Text(name)?.ToLowerInvariant() switch
        {
            null => null,
            "true" or "yes" or "on" => true,
            "false" or "no" or "off" => false,
            _ => throw new ManifestException(Find(name)!, $"{name} is neither true nor false"),
        };

    /// <summary>A field's fields.</summary>
    /// <exception cref="ManifestException">It has none.</exception>
    public Fields? Map(string name) =>
        Find(name) switch
        {
            null => null,
            YamlMappingNode child => new Fields(child),
            YamlScalarNode { Value: null or "" or "~" or "null" } => null,
            YamlNode other => throw new ManifestException(other, $"{name} is no object"),
        };

    /// <summary>A field's texts.</summary>
    /// <exception cref="ManifestException">It is no list of texts.</exception>
    public IReadOnlyList<string> Texts(string name) =>
        Find(name) switch
        {
            null or YamlScalarNode { Value: null or "" or "~" or "null" } => [],
            YamlSequenceNode list =>
            [
                .. list.Children.Select(c =>
                    (c as YamlScalarNode)?.Value ?? throw new ManifestException(c, $"{name} is a list of texts; this is none")
                ),
            ],
            YamlNode other => throw new ManifestException(other, $"{name} is no list"),
        };

    /// <summary>A field's texts by key, such as labels.</summary>
    /// <exception cref="ManifestException">It is no such thing.</exception>
    public IReadOnlyDictionary<string, string> Labels(string name)
    {
        var labels = new SortedDictionary<string, string>(StringComparer.Ordinal);
        if (Map(name) is null || Find(name) is not YamlMappingNode child)
            return labels;
        foreach ((YamlNode key, YamlNode value) in child.Children)
        {
            labels[(key as YamlScalarNode)?.Value ?? ""] =
                (value as YamlScalarNode)?.Value ?? throw new ManifestException(value, $"{name} holds texts; this is none");
        }

        return labels;
    }

    /// <summary>A mapping's child.</summary>
    internal static YamlNode? Child(YamlMappingNode map, string name) =>
        map.Children.TryGetValue(new YamlScalarNode(name), out YamlNode? child) ? child : null;

    private YamlNode? Find(string name)
    {
        _asked.Add(name);
        return Child(map, name);
    }
}

/// <summary>A field that can't be meant.</summary>
internal sealed class ManifestException(YamlNode at, string message) : FormatException(message)
{
    /// <summary>Its line.</summary>
    public int Line { get; } = (int)at.Start.Line;
}
