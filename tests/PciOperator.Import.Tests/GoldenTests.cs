namespace PciOperator.Import.Tests;

/// <summary>What <c>kubectl pci import</c> prints, word for word.</summary>
public class GoldenTests
{
    [Theory]
    [MemberData(nameof(GoldenCase.Names), MemberType = typeof(GoldenCase))]
    public async Task An_import_prints_what_it_always_printed(string name)
    {
        var one = GoldenCase.Of(name);
        (int code, string output, string error) = await one.RunAsync();
        if (Environment.GetEnvironmentVariable("PCI_TEST_GOLDEN") is { Length: > 0 } folder)
            await File.WriteAllTextAsync(Path.Combine(folder, name, "expected.yaml"), output, TestContext.Current.CancellationToken);
        else
            Assert.Equal(one.Expected, output);
        Assert.Equal(0, code);
        // What is refused is said twice: to who reads standard error, and in the YAML.
        foreach (string line in error.Split('\n', StringSplitOptions.RemoveEmptyEntries))
            Assert.Contains(Letters(line["error: ".Length..]), Letters(output));
        Assert.Equal(
            error.Split('\n').Count(l => l.StartsWith("error: ", StringComparison.Ordinal)),
            output.Split("# NOT IMPORTED: ").Length - 1
        );
    }

    // However it is broken into lines.
    private static string Letters(string text) => string.Concat(text.Where(c => c is not (' ' or '\n' or '#')));
}
