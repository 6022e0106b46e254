using YamlDotNet.RepresentationModel;

namespace PciOperator.Api.Tests;

/// <summary>One YAML document, and what the comment lines before it expect (<c># field: …</c>).</summary>
internal sealed record Manifest(string Kind, string Name, string Yaml)
{
    /// <summary>Where objects of its kind are.</summary>
    public string Collection =>
        Kind switch
        {
            "PciDeviceSpec" => $"/apis/{PciOperatorApi.GroupVersion}/pcidevicespecs",
            "PciAlias" => $"/apis/{PciOperatorApi.GroupVersion}/pcialiases",
            "PciNode" => $"/apis/{PciOperatorApi.GroupVersion}/pcinodes",
            "PciQuota" => $"/apis/{PciOperatorApi.GroupVersion}/pciquotas",
            "PassthroughClaim" => $"/apis/{PciOperatorApi.GroupVersion}/namespaces/default/passthroughclaims",
            _ => throw new InvalidOperationException($"No test has objects of kind {Kind}."),
        };

    /// <summary>The documents of a text.</summary>
    public static IEnumerable<Manifest> Parse(string text) =>
        text.Split("\n---\n")
            .Select(document =>
            {
                var stream = new YamlStream();
                stream.Load(new StringReader(document));
                var root = (YamlMappingNode)stream.Documents.Single().RootNode;
                return new Manifest(Scalar(root["kind"]), Scalar(root["metadata"]["name"]), document);
            });

    /// <summary>All files of a folder beside the tests, in order of name.</summary>
    public static IReadOnlyList<(string File, string Text)> Folder(string name) =>
        [
            .. Directory
                .GetFiles(Path.Combine(AppContext.BaseDirectory, name), "*.yaml")
                .Order(StringComparer.Ordinal)
                .Select(path => (Path.GetFileName(path), File.ReadAllText(path))),
        ];

    /// <summary>The value of a comment <c># key: value</c>.</summary>
    public static string? Expected(string text, string key) =>
        text.Split('\n')
            .Where(line => line.StartsWith($"# {key}: ", StringComparison.Ordinal))
            .Select(line => line[(key.Length + 4)..])
            .SingleOrDefault();

    private static string Scalar(YamlNode node) => ((YamlScalarNode)node).Value!;
}
