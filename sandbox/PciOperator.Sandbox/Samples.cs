using System.Reflection;

namespace PciOperator.Sandbox;

/// <summary>The YAML that <c>config/samples</c> has, as it was when this was built, or a folder's.</summary>
internal static class Samples
{
    /// <summary>Texts whose file name has a word in it, in order of file name.</summary>
    public static IReadOnlyList<string> Read(string? folder, string word)
    {
        if (folder is not null)
        {
            return
            [
                .. Directory
                    .GetFiles(folder, "*.yaml")
                    .Where(f => Path.GetFileName(f).Contains(word, StringComparison.Ordinal))
                    .Order(StringComparer.Ordinal)
                    .Select(File.ReadAllText),
            ];
        }

        Assembly assembly = typeof(Samples).Assembly;
        return
        [
            .. assembly
                .GetManifestResourceNames()
                .Where(n => n.StartsWith("samples/", StringComparison.Ordinal) && n.Contains(word, StringComparison.Ordinal))
                .Order(StringComparer.Ordinal)
                .Select(n => new StreamReader(assembly.GetManifestResourceStream(n)!).ReadToEnd()),
        ];
    }
}
