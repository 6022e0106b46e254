using System.Text;
using PciOperator.NovaVectors;

namespace PciOperator.Core.Tests;

/// <summary>Every line that is read is counted, whatever is in it.</summary>
public sealed class VectorLinesTests : IDisposable
{
    private readonly string folder = Directory.CreateTempSubdirectory("vectors").FullName;

    public void Dispose() => Directory.Delete(folder, true);

    [Fact]
    public void Lines_that_are_no_cases_and_answers_that_belong_to_none_fail_and_are_counted()
    {
        // Windows line ends, blank lines, text that is no JSON, a list, a case without an id.
        Write("cases.jsonl", "not json\r\n\r\n{\"id\": 1}\r\n[]\r\n{\"noid\": 2}\r\n   \r\n");
        Write("expected.jsonl", "{\"id\": 9}\r\n{\"id\": 2}\n{}\n{}\n{\"id\": 4}\n");
        Write("exact.jsonl", "{\"id\": 77, \"feasible\": true}\nzzz\n{\"id\": 77, \"feasible\": false}\n");
        Report report = VectorSet.Read(folder).Check();
        // Four cases; one answer too many; a line of the yardstick that is no JSON, one twice, one without a case.
        Assert.Equal(8, report.Lines);
        Assert.Equal(8, report.Failed);
        Assert.Equal(report.Lines, report.Passed + report.Failed + report.Deviated);
        using var text = new StringWriter();
        report.Print(text);
        Assert.EndsWith($"0 passed, 8 failed, 0 deviated{Environment.NewLine}", text.ToString());
    }

    [Fact]
    public void A_good_line_with_Windows_line_ends_and_without_a_last_one_passes()
    {
        Write("cases.jsonl", """{"id": 1, "devices": [], "device_specs": [], "aliases": [{"name": "a1", "vendor_id": "8086", "product_id": "10ca"}], "request": "a1:1"}""" + "\r\n");
        Write("expected.jsonl", """{"id": 1, "matched": {}, "pools": [], "supported": false}""");
        Write("exact.jsonl", """{"id": 1, "feasible": false}""");
        Report report = VectorSet.Read(folder).Check();
        Assert.Equal((1, 1, 0, 0), (report.Lines, report.Passed, report.Failed, report.Deviated));
    }

    [Theory]
    [InlineData("cases.jsonl")]
    [InlineData("expected.jsonl")]
    [InlineData("exact.jsonl")]
    public void A_file_that_must_be_there_is_named_when_it_is_not(string missing)
    {
        foreach (string name in (string[])["cases.jsonl", "expected.jsonl", "exact.jsonl"])
        {
            if (name != missing)
                Write(name, "");
        }
        Assert.Contains(missing, Assert.Throws<InvalidDataException>(() => VectorSet.Read(folder)).Message, StringComparison.Ordinal);
        Write(missing, "");
        Assert.Equal(0, VectorSet.Read(folder).Check().Lines);
    }

    private void Write(string name, string text) => File.WriteAllText(Path.Combine(folder, name), text, Encoding.UTF8);
}
