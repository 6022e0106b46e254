namespace PciOperator.Sandbox.Validation;

/// <summary>The CustomResourceDefinitions of PciOperator's kinds, as <c>crds/</c> had them when this was built.</summary>
public static class SandboxCrds
{
    private const string Prefix = "crds/";

    /// <summary>One YAML text a kind, in order of file name.</summary>
    public static IReadOnlyList<string> All { get; } =
    [
        .. typeof(SandboxCrds)
            .Assembly.GetManifestResourceNames()
            .Where(name => name.StartsWith(Prefix, StringComparison.Ordinal))
            .Order(StringComparer.Ordinal)
            .Select(Read),
    ];

    private static string Read(string name)
    {
        using var reader = new StreamReader(typeof(SandboxCrds).Assembly.GetManifestResourceStream(name)!);
        return reader.ReadToEnd();
    }
}
