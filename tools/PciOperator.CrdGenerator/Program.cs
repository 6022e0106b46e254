using PciOperator.Api;
using PciOperator.CrdGenerator;

// Writes one CustomResourceDefinition per kind into a folder, or with --check says which of them are stale.
bool check = args.Contains("--check");
string[] folders = [.. args.Where(a => !a.StartsWith('-'))];
if (folders.Length != 1 || args.Any(a => a.StartsWith('-') && a != "--check"))
{
    Console.Error.WriteLine("usage: PciOperator.CrdGenerator FOLDER [--check]");
    return 2;
}

var files = new SortedDictionary<string, string>(StringComparer.Ordinal);
try
{
    foreach (Type? kind in new[] { typeof(PciDeviceSpec), typeof(PciAlias), typeof(PassthroughClaim), typeof(PciNode), typeof(PciQuota) })
    {
        var definition = new CustomResourceDefinition(kind);
        files.Add(definition.FileName, definition.ToYaml());
    }
}
catch (IncompleteSchemaException e)
{
    Console.Error.WriteLine(e.Message);
    return 1;
}

DirectoryInfo folder = Directory.CreateDirectory(folders[0]);
return check ? Check() : Write();

int Write()
{
    foreach ((string name, string text) in files)
        File.WriteAllText(Path.Combine(folder.FullName, name), text);
    foreach (FileInfo orphan in Orphans())
        orphan.Delete();
    return 0;
}

int Check()
{
    var stale = new List<string>();
    foreach ((string name, string text) in files)
    {
        string path = Path.Combine(folder.FullName, name);
        if (!File.Exists(path))
            stale.Add($"{name} is missing");
        else if (FirstDifference(File.ReadAllLines(path), text.TrimEnd('\n').Split('\n')) is { } difference)
            stale.Add($"{name} differs in {difference}");
    }

    stale.AddRange(Orphans().Select(f => $"{f.Name} belongs to no kind"));
    if (stale.Count == 0)
        return 0;
    Console.Error.WriteLine($"{folders[0]} is stale: {string.Join("; ", stale)}. Run 'make crds' and commit the result.");
    return 1;
}

IEnumerable<FileInfo> Orphans() => folder.GetFiles($"{PciOperatorApi.Group}_*.yaml").Where(f => !files.ContainsKey(f.Name));

static string? FirstDifference(string[] has, string[] should)
{
    for (int i = 0; i < Math.Max(has.Length, should.Length); i++)
    {
        (string? a, string? b) = (has.ElementAtOrDefault(i), should.ElementAtOrDefault(i));
        if (a != b)
            return $"line {i + 1}: has {Shown(a)}, should have {Shown(b)}";
    }

    return null;

    static string Shown(string? line) => line is null ? "no such line" : $"\"{line.Trim()}\"";
}
