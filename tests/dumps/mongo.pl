#!/usr/bin/perl
# mongodump, mongorestore and mongosh as far as they are documented, on directories of files: DATA/DATABASE/COLLECTION, a
# document a line. Archives are framed as MongoDB's tools frame them.
use strict;
use warnings;
no warnings 'portable';
binmode STDOUT;
binmode STDIN;

my $data = $ENV{MONGO_DATA} // die "no MONGO_DATA\n";
my $password = $ENV{MONGO_PASSWORD};
my $tool = shift @ARGV;
my (%option, @include, @file);
for (@ARGV) {
    if (/^--nsInclude=(.*)$/s) { push @include, $1 }
    elsif (/^--([A-Za-z]+)(?:=(.*))?$/s) { $option{$1} = $2 // 1 }
    else { push @file, $_ }
}
if ($option{version}) { print "$tool version: 100.9.4\n"; exit 0 }

sub slurp { my ($path) = @_; open my $in, '<:raw', $path or die "$path: $!\n"; local $/; my $text = <$in>; $text // '' }
sub spew { my ($path, $text) = @_; open my $out, '>:raw', $path or die "$path: $!\n"; print $out $text; close $out or die $! }
sub names { my ($dir) = @_; opendir my $d, $dir or return (); sort grep { !/^\./ } readdir $d }
sub lines { my ($db, $name) = @_; split /\n/, slurp("$data/$db/$name") }
sub fail { print STDERR "$_[0]\n"; exit($_[1] // 1) }

# CRC-64 of ECMA-182, reflected.
my @table;
for my $i (0 .. 255) {
    my $sum = $i;
    $sum = $sum & 1 ? ($sum >> 1) ^ 0xC96C5795D7870F42 : $sum >> 1 for 1 .. 8;
    $table[$i] = $sum;
}
sub crc { my $sum = ~0; $sum = $table[($sum ^ $_) & 255] ^ ($sum >> 8) for unpack 'C*', $_[0]; ~$sum }

sub text { my ($name, $value) = @_; "\x02$name\0" . pack('V', length($value) + 1) . "$value\0" }
sub number { my ($name, $value) = @_; "\x12$name\0" . pack('Q<', $value) }
sub flag { my ($name, $value) = @_; "\x08$name\0" . pack('C', $value) }
sub bson { my $body = join '', @_; pack('V', length($body) + 5) . $body . "\0" }

sub allowed {
    my $config = $option{config} ? slurp($option{config}) : '';
    my $escaped = $password =~ s/\\/\\\\/gr;
    return if $config eq "password: \"$escaped\"\n" && $option{username} eq 'admin' && $option{authenticationDatabase} eq 'users';
    fail('Failed: error connecting to db server: auth error: unable to authenticate: Authentication failed.');
}

sub dump_all {
    my @databases = exists $option{db} ? ($option{db}) : names($data);
    my $end = "\xff" x 4;
    print pack('V', 0x8199e26d), bson(number('concurrent_collections', 4), text('version', '0.1'), text('server_version', '6.0.14'));
    my @all = map { my $db = $_; map { [$db, $_] } names("$data/$db") } @databases;
    for (@all) {
        my ($db, $name) = @$_;
        print bson(text('db', $db), text('collection', $name), text('metadata', '{"indexes":[]}'), number('size', 0), text('type', 'collection'));
    }
    print bson(text('db', $databases[0]), text('collection', 'a view'), text('metadata', '{"options":{"viewOn":"item"}}'), number('size', 0), text('type', 'view'));
    print $end;
    for (@all) {
        my ($db, $name) = @$_;
        my $body = join '', map { bson(text('v', $_)) } lines($db, $name);
        print bson(text('db', $db), text('collection', $name), flag('EOF', 0), number('CRC', 0)), $body, $end;
        print bson(text('db', $db), text('collection', $name), flag('EOF', 1), number('CRC', crc($body))), $end;
    }
    print STDERR "done dumping\n";
}

sub restore_all {
    fail('oplogReplay wants a whole dump') if $option{oplogReplay} && @include;
    my $in = do { local $/; <STDIN> };
    fail('Failed: stream or file does not appear to be a mongodump archive') unless substr($in, 0, 4) eq pack('V', 0x8199e26d);
    my $at = 4;
    my $next = sub {
        my $size = unpack 'V', substr $in, $at, 4;
        if ($size == 0xffffffff) { $at += 4; return undef }
        my $document = substr $in, $at, $size;
        $at += $size;
        $document;
    };
    1 while defined $next->();
    my %got;
    while ($at < length $in) {
        my ($db, $name) = $next->() =~ /\x02db\0....(.*?)\0\x02collection\0....(.*?)\0/s or fail('corruption found in archive');
        my @documents;
        while (defined(my $document = $next->())) { push @documents, $document =~ /\x02v\0....(.*?)\0/s }
        next if @include && !grep { $_ eq "$db.*" } @include;
        my $to = $option{nsFrom} && $option{nsFrom} eq "$db.*" ? $option{nsTo} =~ s/\.\*$//r : $db;
        push @{ $got{$to}{$name} }, @documents;
    }
    for my $db (keys %got) {
        mkdir "$data/$db";
        spew("$data/$db/$_", join '', map { "$_\n" } @{ $got{$db}{$_} }) for keys %{ $got{$db} };
    }
    fail('Failed: shop.item: E11000 duplicate key') if -e "$data/.refuse";
}

sub ask {
    my $script = slurp($file[0]);
    my $escaped = $password =~ s/([^A-Za-z0-9._-])/sprintf '%%%02X', ord $1/ger;
    my $wanted = "connect(\"mongodb://admin:$escaped\@127.0.0.1:27999/?directConnection=true&authSource=users\")";
    fail('MongoServerError: Authentication failed.') unless index($script, $wanted) >= 0;
    fail('the script can be read by others') if (stat $file[0])[2] & 077;
    my ($verb) = $script =~ m{^// (\S+)} or fail('SyntaxError');
    my ($db) = $script =~ /const given = \{"database":"((?:[^"\\]|\\.)*)"/;
    my $answer = 'true';
    my $json = sub { '[' . join(',', map { "\"$_\"" } @_) . ']' };
    if ($verb eq 'version') { $answer = '"6.0.14"' }
    elsif ($verb eq 'databases') { $answer = $json->(names($data)) }
    elsif ($verb eq 'drop-database') { system('rm', '-rf', '--', "$data/$db") }
    elsif ($verb eq 'drop-others') {
        my ($keep) = $script =~ /"keep":\[(.*?)\]/;
        my @gone = grep { index($keep, "\"$_\"") < 0 } names("$data/$db");
        unlink "$data/$db/$_" for @gone;
        $answer = $json->(@gone);
    } elsif ($verb eq 'counts') {
        $answer = '{' . join(',', map { "\"$_\":" . scalar(my @all = lines($db, $_)) } names("$data/$db")) . '}';
    } else { fail("ReferenceError: $verb") }
    print "a greeting\nholdfast-answer $answer\n";
}

if ($tool eq 'mongosh') { ask() } else { allowed(); $tool eq 'mongodump' ? dump_all() : restore_all() }
